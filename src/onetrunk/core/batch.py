"""What travels between columns, trunk and objectives, as tensors.

Shape legend, here and everywhere: B sequences in a batch, T positions in a sequence, D width, H heads, V vocabulary;
m documents, n positions of one segment or column, r positions that are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.content import ReadPositions

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask  # which imports the compiler


Change = Callable[[Tensor], Tensor]


def _changed(tensors: Mapping[str, Tensor], change: Change) -> dict[str, Tensor]:
    return {name: change(tensor) for name, tensor in tensors.items()}


def tensors_of(arrays: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Arrays as tensors of the same names."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}


def state_of(on: ReadPositions, device: torch.device) -> dict[str, Tensor]:
    """What an answer's state keeps of the column it reads on, under the same names."""
    return tensors_of({"lens": on.lens, **on.facts}, device)


@dataclass
class Layout:
    """Who sees whom. A query sees a key iff they share a document, the key's branch is 0 or the query's own, and the
    key's order is not above the query's. Branch 0 holds what is given: an answer never depends on what else is asked.
    """

    doc_BT: Tensor  # -1 where padded
    branch_BT: Tensor
    order_BT: Tensor
    pos_BT: Tensor  # for rotary embedding; restarts in every column
    causal: bool = False  # one causal document a row: the attention kernel's causal flag says it all
    full: bool = False  # one block a row, no padding, the same positions in every row: everyone sees everyone
    tiles: BlockMask | None = None  # the mask as compiled blocks want it on some devices (`nn.packed`)
    _mask: Tensor | None = None

    def mask(self) -> Tensor:
        """bool [B, 1, T, T], true where a query (third axis) sees a key (fourth)."""
        if self._mask is None:
            doc, branch, order = self.doc_BT, self.branch_BT, self.order_BT
            seen = doc[:, :, None] == doc[:, None, :]
            seen &= (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
            seen &= order[:, None, :] <= order[:, :, None]
            self._mask = seen[:, None]
        return self._mask

    def rule(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """The mask for kernels that ask one by one: of a row, a head, a query and a key."""
        doc, branch, order = self.doc_BT, self.branch_BT, self.order_BT

        def sees(b: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            open_to = (branch[b, k] == 0) | (branch[b, k] == branch[b, q])
            return (doc[b, q] == doc[b, k]) & open_to & (order[b, k] <= order[b, q])

        return sees

    @classmethod
    def stream(cls, B: int, T: int, device: torch.device | str = "cpu") -> Layout:
        """B causal documents of one asked column, a row each, without padding."""
        pos = torch.arange(T, device=device).expand(B, -1)
        return cls(torch.arange(B, device=device)[:, None].expand(B, T), torch.ones_like(pos), pos, pos, causal=True)

    def lengths(self) -> Tensor:
        """Positions of every document, int64 [m]; one that has none may be missing at the end."""
        return torch.bincount(self.doc_BT[self.doc_BT >= 0])

    def map(self, change: Change) -> Layout:
        doc, branch, order, pos = (change(a) for a in (self.doc_BT, self.branch_BT, self.order_BT, self.pos_BT))
        return Layout(doc, branch, order, pos, causal=self.causal, full=self.full)


@dataclass
class Embed:
    """Content of one column for the whole batch: n positions, the role of each (or [1], of all), and where it stands in
    [B * T].

    `facts` [k, ...] are of the k documents that hold it, in the order of their positions (`Segment.facts`).
    """

    content: dict[str, Tensor]
    role_n: Tensor
    flat_n: Tensor
    facts: dict[str, Tensor] = field(default_factory=dict)

    def map(self, change: Change) -> Embed:
        content, facts = _changed(self.content, change), _changed(self.facts, change)
        return Embed(content, change(self.role_n), change(self.flat_n), facts)


@dataclass
class Read:
    """What one objective reads of one column: targets [r, ...], flat positions [r], documents [r]."""

    targets: dict[str, Tensor]
    flat_r: Tensor
    doc_r: Tensor

    def map(self, change: Change) -> Read:
        return Read(_changed(self.targets, change), change(self.flat_r), change(self.doc_r))


@dataclass
class Batch:
    """Packed documents. `reads[objective][column]`; `docs[objective]` the documents of an objective, in order.

    `gather_N` [B * T] says which of the joined embeddings (columns in the order of `embeds`) stands at each place;
    their number is the index of padding. None: they already stand in order.
    """

    layout: Layout
    embeds: dict[str, Embed]
    gather_N: Tensor | None = None
    reads: dict[str, dict[str, Read]] = field(default_factory=dict)
    docs: dict[str, Tensor] = field(default_factory=dict)
    row: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # [m] the table row of each document
    counts: dict[str, float] = field(default_factory=dict)  # of each loss ("predict/label"), known before forward
    tokens: int = 0  # positions that are not padding
    wide: dict[str, Tensor] = field(default_factory=dict)  # asked column -> what its wide read-out says [m, K]

    def map(self, change: Change) -> Batch:
        """The batch with every tensor changed."""
        return replace(
            self,
            layout=self.layout.map(change),
            embeds={name: embed.map(change) for name, embed in self.embeds.items()},
            gather_N=None if self.gather_N is None else change(self.gather_N),
            reads={tag: {name: read.map(change) for name, read in reads.items()} for tag, reads in self.reads.items()},
            docs=_changed(self.docs, change),
            wide=_changed(self.wide, change),
        )

    def to(self, device: torch.device | str) -> Batch:
        """From pinned memory the copies wait for nothing, and what the device does next waits for them."""
        if torch.device(device) == self.layout.doc_BT.device:
            return self
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The batch in memory from which a CUDA device copies by itself."""
        return self.map(Tensor.pin_memory)


@dataclass
class Loss:
    """A sum and a count, so that micro-batches, ragged batches and several processes give one result.

    `sum` carries the gradient; `count` is the sum of weights; `each` [r] (detached) and `doc` [r] say whose it was.
    """

    sum: Tensor
    count: Tensor
    each: Tensor | None = None
    doc: Tensor | None = None
