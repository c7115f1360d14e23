"""Recurrent trunks: LSTM (Hochreiter and Schmidhuber 1997), GRU (arXiv 1406.1078), plain RNN (Elman 1990).

They take the transformer's call. A document's given positions (branch 0) are run in layout order; every asked
branch starts from the state after them. So an answer depends neither on what else is asked nor on packing.

B sequences, T positions, D width, S streams (one branch of one document each), t positions of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from onetrunk.core.batch import Layout
from onetrunk.core.config import Config

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}

Watch = Callable[[int, Tensor], None]
State = tuple[Tensor, ...]  # of one layer: h [S, D], for the LSTM also c [S, D]


class RecurrentConfig(Config):
    kind: Literal["lstm", "gru", "rnn"] = "lstm"
    width: int = Field(128, ge=8, le=16384)
    layers: int = Field(2, ge=1, le=256)
    dropout: float = Field(0.0, ge=0, lt=1)
    norm: Literal["rms", "none"] = "rms"  # of what leaves the trunk
    eps: float = Field(1e-6, gt=0)


@dataclass
class RecurrentCache:
    """The state after what was kept: a layer each, documents first."""

    layers: list[State]

    def after(self, layers: list[State], keep: bool | Tensor) -> RecurrentCache:
        if isinstance(keep, Tensor):
            raise TypeError("this cache keeps new positions of all documents or of none; RecurrentSlots can do more")
        return RecurrentCache(layers) if keep else self

    def select(self, index: Tensor) -> RecurrentCache:
        """The documents of `index` [k], repeats allowed."""
        return RecurrentCache([tuple(s[index] for s in state) for state in self.layers])


class RecurrentSlots:
    """States of a number of documents, each in a slot: as `kv_cache.SlotCache`, but a state does not grow."""

    positions = None  # of a slot: as many as one likes

    def __init__(self, states: list[State]) -> None:
        self.states = states

    def rows(self, slots: Tensor) -> RecurrentRows:
        return RecurrentRows(self, slots)

    def clear(self, slots: Tensor) -> None:
        for tensor in self.storage():
            tensor[slots] = 0

    def copy(self, source: Tensor, target: Tensor) -> None:
        for tensor in self.storage():
            tensor[target] = tensor[source]

    def storage(self) -> list[Tensor]:
        return [tensor for state in self.states for tensor in state]


@dataclass
class RecurrentRows:
    """Some slots, in an order, for one call of `extend`."""

    cache: RecurrentSlots
    slots: Tensor  # int64 [N]

    @property
    def layers(self) -> list[State]:
        return [tuple(tensor[self.slots] for tensor in state) for state in self.cache.states]

    def after(self, layers: list[State], keep: bool | Tensor) -> RecurrentRows:
        kept = keep if isinstance(keep, Tensor) else torch.full((len(self.slots),), keep, device=self.slots.device)
        for state, new in zip(self.cache.states, layers, strict=True):
            for tensor, after in zip(state, new, strict=True):
                tensor[self.slots[kept]] = after[kept].to(tensor.dtype)
        return self


@dataclass
class _Streams:
    """Where the streams of a packed batch lie: all first branches, then all asked ones."""

    flat: Tensor  # int64 [n] position in the flattened [B * T] batch, stream after stream
    stream: Tensor  # int64 [n]
    local: Tensor  # int64 [n] place in the stream
    lens: Tensor  # int64 [S]
    doc: Tensor  # int64 [S] one number a document
    parent: Tensor  # int64 [S] the stream whose last state this one starts from, -1: from zero
    given: int  # how many of them are branch 0

    def apart(self, x_BTD: Tensor) -> Tensor:
        """[S, t, D], zeros where padded."""
        x_StD = x_BTD.new_zeros(len(self.lens), int(self.lens.max()), x_BTD.shape[-1])
        x_StD[self.stream, self.local] = x_BTD.flatten(0, 1)[self.flat]
        return x_StD

    def back(self, x_StD: Tensor, B: int, T: int) -> Tensor:
        """[B, T, D], zeros where padded."""
        x_ND = x_StD.new_zeros(B * T, x_StD.shape[-1])
        return x_ND.index_copy(0, self.flat, x_StD[self.stream, self.local]).view(B, T, -1)


class Recurrent(nn.Module):
    """x_BTD to h_BTD, normed unless told otherwise."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        cell = CELLS[config.kind]
        self.layers = nn.ModuleList(cell(width, width, batch_first=True) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width, eps=config.eps) if config.norm == "rms" else nn.Identity()
        if config.kind == "lstm":
            for layer in self.layers:  # forget gates start open (Jozefowicz et al. 2015)
                nn.init.ones_(layer.get_parameter("bias_ih_l0").data[width : 2 * width])

    def forward(self, x_BTD: Tensor, layout: Layout, watch: Watch | None = None) -> Tensor:
        """h_BTD; where the layout has padding it means nothing. `watch` is told the number of each layer and what
        leaves it, [B, T, D]."""
        B, T, _ = x_BTD.shape
        if layout.causal or layout.full:  # one document a row: padding comes after it and disturbs nothing
            return self.norm(self._run(x_BTD, self._masks(x_BTD, B), watch))
        streams = _find_streams(layout)
        if not len(streams.flat):
            return self.norm(x_BTD)
        x_ntD = streams.apart(x_BTD)
        masks = self._masks(x_BTD, int(streams.doc.max()) + 1)
        masks = masks and [mask[streams.doc] for mask in masks]
        watch_streams = None if watch is None else _watching(watch, streams, (B, T))
        return self.norm(streams.back(self._run_streams(x_ntD, streams, masks, watch_streams), B, T))

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """None that a compiler or Muon would take: cells are one kernel, with the matrices of several gates in one."""
        return []

    def flops(self, layout: Layout) -> float:
        """Floating-point operations of a training step."""
        return 6.0 * sum(p.numel() for p in self.layers.parameters() if p.ndim == 2) * int(layout.lengths().sum())

    def start_cache(self, n: int, device: torch.device) -> RecurrentCache:
        """The state of n documents before anything was seen."""
        zero = torch.zeros(n, self.config.width, device=device)
        return RecurrentCache([(zero,) * self._states for _ in self.layers])

    @property
    def max_positions(self) -> int | None:
        """Of one column: as many as one likes."""
        return None

    def start_slots(self, slots: int, positions: int, device: torch.device, dtype: torch.dtype) -> RecurrentSlots:
        """States of as many documents; how many positions a document has is all the same to them."""
        width = self.config.width
        return RecurrentSlots(
            [
                tuple(torch.zeros(slots, width, dtype=dtype, device=device) for _ in range(self._states))
                for _ in self.layers
            ]
        )

    def extend(
        self,
        x_NtD: Tensor,
        pos_Nt: Tensor,
        valid_Nt: Tensor,
        cache: RecurrentCache | RecurrentRows,
        causal: bool,
        keep: bool | Tensor,
    ) -> tuple[Tensor, RecurrentCache | RecurrentRows]:
        """New positions of n documents after what the cache holds; padding (`valid_Nt` false) follows.

        With `keep` the returned cache is the state after them; slots are themselves changed, and may keep it for some
        documents (bool [n]). `pos_Nt` and `causal` are there for the transformer's sake: a recurrent state is causal
        and needs no positions.
        """
        lens = valid_Nt.sum(dim=1)
        layers = []
        for layer, state in zip(self._cells, cache.layers, strict=True):
            x_NtD, state = _run_layer(layer, x_NtD, lens, state)
            layers.append(state)
        return self.norm(x_NtD), cache.after(layers, keep)

    @property
    def _cells(self) -> list[nn.RNNBase]:
        return cast(list[nn.RNNBase], list(self.layers))  # a ModuleList does not say of what

    @property
    def _states(self) -> int:
        return 2 if self.config.kind == "lstm" else 1

    def _masks(self, x: Tensor, documents: int) -> list[Tensor] | None:
        """Variational dropout (arXiv 1512.05287): a document keeps one mask for all its positions, for every
        layer's input and for the last output; each [documents, D]. The recurrent input h is not dropped: the
        fused cells do not offer it.
        """
        p = self.config.dropout
        if not self.training or p == 0:
            return None
        return [
            x.new_empty(documents, self.config.width).bernoulli_(1 - p) / (1 - p) for _ in range(len(self.layers) + 1)
        ]

    def _run(self, x_BtD: Tensor, masks: list[Tensor] | None, watch: Watch | None) -> Tensor:
        for i, layer in enumerate(self.layers):
            x_BtD = layer(x_BtD if masks is None else x_BtD * masks[i][:, None])[0]
            if watch is not None:
                watch(i, x_BtD)
        return x_BtD if masks is None else x_BtD * masks[-1][:, None]

    def _run_streams(
        self,
        x_StD: Tensor,
        streams: _Streams,
        masks: list[Tensor] | None,
        watch: Callable[[int, Tensor], Tensor] | None,
    ) -> Tensor:
        given, lens = streams.given, streams.lens
        zero = x_StD.new_zeros(len(lens), x_StD.shape[2])
        start = (zero,) * self._states
        for i, layer in enumerate(self._cells):
            if masks is not None:
                x_StD = x_StD * masks[i][:, None]
            first, last = _run_layer(layer, x_StD[:given], lens[:given], tuple(s[:given] for s in start))
            # One row of zeros at the end is where parent -1 points.
            after = tuple(torch.cat([s, s.new_zeros(1, s.shape[1])])[streams.parent[given:]] for s in last)
            rest, _ = _run_layer(layer, x_StD[given:], lens[given:], after)
            x_StD = torch.cat([first, rest])
            if watch is not None:
                x_StD = watch(i, x_StD)
        return x_StD if masks is None else x_StD * masks[-1][:, None]


def _watching(watch: Watch, streams: _Streams, shape: tuple[int, int]) -> Callable[[int, Tensor], Tensor]:
    """Tells `watch` of a layer as it stands in the batch; what goes on comes from there, so that gradients reach it."""

    def told(i: int, x_StD: Tensor) -> Tensor:
        x_BTD = streams.back(x_StD, *shape)
        watch(i, x_BTD)
        return streams.apart(x_BTD)

    return told


def _run_layer(layer: nn.RNNBase, x_StD: Tensor, lens: Tensor, state: State) -> tuple[Tensor, State]:
    """Outputs [S, t, D] (0 where padded) and the state after each stream's last position.

    A stream of length 0 keeps its state.
    """
    live = lens > 0
    if not bool(live.any()):
        return torch.zeros_like(x_StD), state
    if not bool(live.all()):
        index = live.nonzero()[:, 0]
        h, after = _run_layer(layer, x_StD[index], lens[index], tuple(s[index] for s in state))
        merged = tuple(s.to(a.dtype).index_copy(0, index, a) for s, a in zip(state, after, strict=True))
        return h.new_zeros(x_StD.shape).index_copy(0, index, h), merged
    t = x_StD.shape[1]
    before = tuple(s.to(x_StD.dtype)[None].contiguous() for s in state)
    packed = pack_padded_sequence(x_StD, lens.cpu(), batch_first=True, enforce_sorted=False)
    h, after = layer(packed, before if len(before) > 1 else before[0])
    h_StD, _ = pad_packed_sequence(h, batch_first=True, total_length=t)
    return h_StD, tuple(s[0] for s in (after if isinstance(after, tuple) else (after,)))


def _find_streams(layout: Layout) -> _Streams:
    """Branches of documents, found in layout order."""
    T = layout.doc_BT.shape[1]
    device = layout.doc_BT.device
    doc = layout.doc_BT.reshape(-1)
    flat = (doc >= 0).nonzero()[:, 0]
    if not len(flat):
        return _Streams(flat, flat, flat, flat, flat, flat, 0)
    doc, branch = doc[flat], layout.branch_BT.reshape(-1)[flat]
    document_of = (flat // T) * (doc.max() + 1) + doc  # one number a document, also if rows number theirs alike
    documents, document_of = document_of.unique(return_inverse=True)
    keys, stream = (branch * len(documents) + document_of).unique(return_inverse=True)  # branch 0 sorts first
    by_stream = stream.argsort(stable=True)
    stream, flat = stream[by_stream], flat[by_stream]
    lens = stream.bincount(minlength=len(keys))
    starts = lens.cumsum(0) - lens
    local = torch.arange(len(flat), device=device) - starts[stream]
    given = int((keys < len(documents)).sum())
    document = keys % len(documents)
    of_document = torch.full((len(documents),), -1, device=device)
    of_document[document[:given]] = torch.arange(given, device=device)
    return _Streams(flat, stream, local, lens, document, of_document[document], given)
