"""Writes answers as ONNX graphs for ONNX Runtime, which take batches of any size and values of any length.

One-shot answers (a class, a number, a date) and the state that describes a row take what `data.pack` lays out: the
content of every given column, and which of the joined positions stands where; beside a wide read-out also the features
that it looks at (`interop.onnx_inputs`). A text that is written from nothing becomes a language model: tokens to
logits.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.families.tokens.encoder import TokenEncoder
from onetrunk.columns.families.tokens.module import TokenModule
from onetrunk.core import rng
from onetrunk.core.answer import Sampling
from onetrunk.core.batch import Batch, Embed, Layout
from onetrunk.core.content import ReadPositions, Role
from onetrunk.core.decoding import AnswerContext
from onetrunk.core.encoder import Encoder, SegmentContext, reads_on
from onetrunk.core.errors import MissingExtraError, UsageError
from onetrunk.data.store import Store
from onetrunk.inference.model_folder import Model
from onetrunk.interop.onnx_inputs import COLUMNS, IN_A_FILE, WIDE, WideArrays, example, feeds, wide_arrays, wide_inputs
from onetrunk.model import FoundationModel
from onetrunk.nn.transformer import Transformer
from onetrunk.storage.names import file_name
from onetrunk.storage.strict_json import write_json

FILE = "model.onnx"
EMBEDDING = "row.embedding"  # [rows, D], the mean of the given states


class Graph(nn.Module):
    """What is written. `outputs` names the tensors that it gives, in order."""

    outputs: Sequence[str]


class OneShot(Graph):
    """What is given to an asked column's numbers and the row's embedding, or to the latter alone."""

    slot: Tensor  # [1, t, D]

    def __init__(
        self,
        network: FoundationModel,
        given: Sequence[str],
        ask: str | None,
        arrays: Sequence[str],
        grid: int | None,
        facts: Mapping[str, np.ndarray],
        wide: WideArrays,
    ) -> None:
        """`arrays` names what it takes besides `gather` and `pos`. `grid`, where the asked column reads on another one:
        how many positions that takes, 0 where they differ; `facts` are one document's of that column
        (`core.content.Segment`). `wide` is what the asked column's wide read-out looks at."""
        super().__init__()
        self.network, self.given, self.ask, self.arrays, self.grid = network, list(given), ask, list(arrays), grid
        self.facts, self.wide = list(facts), wide_inputs(wide)
        outputs = [EMBEDDING]
        if ask is not None:
            module, cpu = network.module(ask), torch.device("cpu")
            keys, t = rng.mix(np.zeros(1, dtype=np.uint64)), grid or 1
            on = None if grid is None else ReadPositions(np.full(1, t), dict(facts))
            self.state = module.start(AnswerContext.alike(keys, Sampling(), cpu, read_positions=on))
            with torch.no_grad():
                if grid is None:
                    query = module.query(self.state)
                    t = query.t
                    slot = module.embed(query.content).view(1, t, -1) + network.marker(ask)[Role.ASKED]
                    self.register_buffer("slot", slot)
                after = module.step(self.state, torch.zeros(1, t, module.read_width), None)
            outputs += [f"{ask}.{name}" for name in after if name not in self.state]
        self.outputs = outputs

    def forward(self, gather_BT: Tensor, pos_BT: Tensor, *arrays: Tensor) -> tuple[Tensor, ...]:
        """gather_BT: which of the given columns' joined positions stands at each place; their number where padded."""
        network = self.network
        content: dict[str, dict[str, Tensor]] = {name: {} for name in self.given}
        features: dict[str, dict[str, Tensor]] = {name: {} for name, _ in self.wide.values()}
        for name, array in zip(self.arrays, arrays, strict=True):
            if name in self.wide:
                column, field = self.wide[name]
                features[column][field] = array
            else:
                column, _, field = name.rpartition(".")
                content[column][field] = array
        n, device = gather_BT.shape[0], gather_BT.device  # not len(): that would fix it
        role = torch.full((1,), int(Role.GIVEN), device=device)
        embeddings = {c: network.embed(c, content[c], role) for c in self.given}
        lens = [x.shape[0] for x in embeddings.values()]
        valid = gather_BT < sum(lens)
        doc = torch.where(valid, torch.arange(n, device=device)[:, None], -1)
        layout = Layout(doc, torch.zeros_like(doc), torch.zeros_like(doc), pos_BT)
        embeds = {c: Embed(content[c], role, torch.arange(x.shape[0], device=device)) for c, x in embeddings.items()}
        batch = Batch(layout, embeds, gather_BT.flatten())
        hidden = network.encode(batch, embeddings=embeddings, cache=network.start_cache(n))
        pooled = hidden.pooled_MD
        if self.ask is None:
            return (pooled,)
        module = network.module(self.ask)
        state = {name: tensor.expand(n, *tensor.shape[1:]) for name, tensor in self.state.items()}
        if self.grid is not None and (other := reads_on(module.encoder)) is not None:
            h, on = self._read_on(other, self.grid, hidden.h_BTD, gather_BT, lens, content)
            after = module.step(state | on, h, None)
        else:
            t = self.slot.shape[1]
            pos, there = torch.arange(t, device=device).expand(n, -1), torch.ones(n, t, dtype=torch.bool, device=device)
            slot = self.slot.expand(n, -1, -1)
            h, _ = network.extend(slot, pos, there, hidden.cache, causal=False, keep=False)
            readout = network.wide_of(self.ask)  # what it says is read out after the pooled states
            beside = pooled if readout is None else torch.cat([pooled, readout(features, n)], dim=1)
            after = module.step(state, network.with_pooled(self.ask, h, beside), None)
        return (pooled, *(after[name.removeprefix(f"{self.ask}.")] for name in self.outputs[1:]))

    def _read_on(
        self,
        other: str,
        grid: int,
        h: Tensor,
        gather_BT: Tensor,
        lens: Sequence[int],
        content: dict[str, dict[str, Tensor]],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A given column's states [B, grid, D] (T of them where `grid` is 0), and `core.batch.state_of` it."""
        c = self.given.index(other)
        at = F.pad((gather_BT >= sum(lens[:c])) & (gather_BT < sum(lens[: c + 1])), (0, grid))
        t = torch.arange(at.shape[1], device=h.device)
        order = torch.where(at, t, t + at.shape[1]).argsort(dim=1)  # its own first
        h = F.pad(h, (0, 0, 0, grid))
        if grid:
            order = order[:, :grid]
        state = {"lens": at.sum(1)}
        there = at.any(1)
        for name in self.facts:
            fact = content[other][name]
            fact = torch.cat([torch.zeros_like(fact[:1]), fact])  # the first of a row without that column
            state[name] = fact[there.cumsum(0) * there]
        rows = torch.arange(h.shape[0], device=h.device)
        return h[rows[:, None], order], state  # no h.gather: its result would have the name of an input


class LanguageModel(Graph):
    """Tokens [B, T], the start token first, to the next ones' logits [B, T, V]."""

    outputs = ("logits",)

    def __init__(self, network: FoundationModel, ask: str) -> None:
        super().__init__()
        self.network, self.ask = network, ask

    def forward(self, ids_BT: Tensor) -> tuple[Tensor, ...]:
        module, (B, T) = self.network.module(self.ask), ids_BT.shape
        role = torch.full((1,), int(Role.ASKED), device=ids_BT.device)
        here = torch.arange(B * T, device=ids_BT.device)
        batch = Batch(Layout.stream(B, T, ids_BT.device), {self.ask: Embed({"id": ids_BT.flatten()}, role, here)})
        assert isinstance(module, TokenModule)
        return (F.linear(*module.readout(self.network.encode(batch).h_BTD)).float(),)


# -- writing -------------------------------------------------------------------------------------------------
def write(model: Model, ask: str | None, given: Sequence[str], store: Store, folder: Path, int8: bool) -> None:
    """Puts `model.onnx` in a folder, and beside it what turns values into what it takes. The rows of a store show the
    exporter what that looks like.

    Raises UsageError for what is not answered in one step, or a recurrent trunk; MissingExtraError.
    """
    graph, taken = graph_of(model, ask, given, store)
    wide = wide_arrays(model.network, given, ask)
    if isinstance(graph, LanguageModel):
        traced = {"ids": np.resize(taken[0]["ids"], (2, max(2, taken[0]["ids"].shape[1])))}
    else:
        traced = example(store, given, wide)
    _write(graph, traced, folder / FILE)
    if int8:
        _quantise(folder / FILE)
    _describe(model, [*given, *([ask] if ask else [])], wide, folder)


def graph_of(
    model: Model, ask: str | None, given: Sequence[str], store: Store
) -> tuple[OneShot | LanguageModel, list[dict[str, np.ndarray]]]:
    """What is written, and what it takes for the rows of a store."""
    network = model.network
    encoder = None if ask is None else model.encoder(ask)
    if not isinstance(network.trunk, Transformer):
        raise UsageError(
            f"Only transformers are written as ONNX; this trunk is of the kind {network.trunk.config.kind}."
        )
    graph: OneShot | LanguageModel
    if ask is not None and isinstance(encoder, TokenEncoder):
        if encoder.options.bigrams:
            raise UsageError(f"{ask!r} also embeds pairs of tokens (bigrams), which are not written as ONNX.")
        graph, taken = LanguageModel(network, ask), _texts(store, ask)
    elif ask is None or encoder is None or model.module(ask).pooled or reads_on(encoder) is not None:
        wide = wide_arrays(network, given, ask)
        taken = feeds(store, given, wide)
        graph = OneShot(network, given, ask, list(taken[0])[2:], *_read_on(encoder, store, given), wide)
    else:
        raise UsageError(
            f"An answer of {ask!r} takes many steps of the trunk; only those of one step are written as ONNX."
        )
    return graph.eval(), taken


def _read_on(encoder: Encoder | None, store: Store, given: Sequence[str]) -> tuple[int | None, dict[str, np.ndarray]]:
    """`grid` and `facts` of `OneShot`."""
    if encoder is None or (other := reads_on(encoder)) is None:
        return None, {}
    if other not in given:
        raise UsageError(f"What is asked is read on the column {other!r}, which is not given: --given {other}.")
    c = store.names.index(other)
    read, one = store.encoders[c], store.contents[c].take(np.zeros(1, dtype=np.int64))
    grid = 0 if read.ragged else int(read.max_positions(one)[0])
    return grid, read.segment(one, SegmentContext(Role.GIVEN, np.zeros(1, dtype=np.uint64))).facts


def _describe(model: Model, columns: Sequence[str], wide: WideArrays, folder: Path) -> None:
    """What turns values into the graph's arrays, and its numbers into answers: classes, scales, tokenizers."""
    described: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(columns):
        encoder = model.encoder(name)
        assets = {f"{file_name(name)}.{file}": text for file, text in encoder.assets().items()}
        for file, text in assets.items():
            (folder / file).write_text(text, encoding="utf-8")
        knows = {key: value for key, value in encoder.knowledge().items() if not (assets and key == IN_A_FILE)}
        options = encoder.options.model_dump()
        described[name] = {"type": model.columns[name].type, "options": options, "knowledge": knows}
        if (calibration := model.calibration(name)) is not None:  # of classes it is in the graph
            described[name]["spread"] = calibration.spread
        if name in wide:
            described[name][WIDE] = list(wide[name])
    write_json(folder / COLUMNS, described)


def _texts(store: Store, ask: str) -> list[dict[str, np.ndarray]]:
    """Each text with the start token before it."""
    c = store.names.index(ask)
    encoder, content = store.encoders[c], store.contents[c]
    segment = encoder.segment(content, SegmentContext(Role.ASKED, np.zeros(len(content), dtype=np.uint64)))
    return [{"ids": ids[None]} for ids in np.split(segment.content["id"].astype(np.int64), segment.lens.cumsum()[:-1])]


@contextmanager
def _quiet() -> Any:
    """The exporter talks about itself."""
    level = logging.getLogger().level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            logging.getLogger().setLevel(level)


def _write(graph: Graph, feed: dict[str, np.ndarray], path: Path) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError("onnxscript", "export", "Writing ONNX") from None
    arrays = [torch.from_numpy(np.ascontiguousarray(array)) for array in feed.values()]
    any_size = torch.export.Dim.DYNAMIC
    shapes = [{i: any_size for i in range(2 if name in ("gather", "pos", "ids") else 1)} for name in feed]
    dynamic = (shapes[0],) if len(shapes) == 1 else (shapes[0], shapes[1], tuple(shapes[2:]))
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            graph, tuple(arrays), path, input_names=list(feed), output_names=list(graph.outputs),
            dynamic_shapes=dynamic, dynamo=True, external_data=False, verbose=False,
            custom_translation_table={torch.ops.aten.searchsorted.Tensor: _search},
        )  # fmt: skip


def _search(
    sorted_sequence: Any, self: Any, out_int32: bool = False, right: bool = False, side: Any = None, sorter: Any = None
) -> Any:
    """`torch.searchsorted` as a network looks for known features, in one dimension and from the left: ONNX has no such
    operator. Every step halves what is left of each search."""
    from onnxscript import opset18 as op

    assert not (right or side or sorter is not None), "only the first place is looked for"
    left = int(sorted_sequence.shape[0])
    at = op.Sub(self, self)
    while left > 1:
        half = left // 2
        before = op.Gather(sorted_sequence, op.Add(at, op.Constant(value_int=half - 1)))
        at = op.Where(op.Less(before, self), op.Add(at, op.Constant(value_int=half)), at)
        left -= half
    last = op.Less(op.Gather(sorted_sequence, at), self)
    return op.Where(last, op.Add(at, op.Constant(value_int=1)), at)


def _quantise(path: Path) -> None:
    """Weights of matrices in 8 bits, activations as they come (dynamic quantisation). Of the 8 bits 7 are used: sums of
    products overflow else on processors without VNNI instructions, and such a file would answer wrongly there."""
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise MissingExtraError("onnxruntime", "export", "Writing int8") from None
    whole = path.with_suffix(".fp32")
    path.rename(whole)
    with _quiet():
        quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    whole.unlink()
