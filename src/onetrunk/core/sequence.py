"""What travels between columns, trunk and objectives.

Shape legend, here and everywhere: B sequences in a batch, T positions in a sequence, D width, H heads, V vocabulary;
m documents, n positions of one segment or column, r positions that are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Role(IntEnum):
    """What a column does in one document."""

    ABSENT = 0
    GIVEN = 1  # visible
    ASKED = 2  # predicted, in a branch of its own
    MASKED = 3  # some parts hidden, predicted in place


@dataclass
class Content:
    """Encoded values of one column for m documents: deterministic, cacheable, free of randomness.

    Dense (`lens is None`): every array is [m, ...]. Ragged: document i is `array[starts[i] : starts[i] + lens[i]]` of
    every array, so that taking documents, or windows of them, copies nothing until `gather`.
    """

    data: dict[str, np.ndarray]
    lens: np.ndarray | None = None
    starts: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.lens is not None and self.starts is None:
            self.starts = np.cumsum(self.lens) - self.lens

    def __len__(self) -> int:
        return len(self.lens) if self.lens is not None else len(next(iter(self.data.values())))

    def take(self, index: np.ndarray) -> Content:
        """The documents of `index` [k], in that order, repeats allowed."""
        if self.lens is None:
            return Content({name: array[index] for name, array in self.data.items()})
        return Content(self.data, self.lens[index], self.starts[index])

    def window(self, first: np.ndarray, lens: np.ndarray) -> Content:
        """Ragged only: parts `first[i] .. first[i] + lens[i]` of every document."""
        return Content(self.data, lens, self.starts + first)

    def gather(self) -> dict[str, np.ndarray]:
        """The arrays of these documents alone: [m, ...] or, ragged, [sum(lens), ...]."""
        if self.lens is None:
            return self.data
        flat = np.repeat(self.starts, self.lens) + local_positions(self.lens)
        return {name: array[flat] for name, array in self.data.items()}

    @staticmethod
    def stack(items: list[dict[str, np.ndarray]], ragged: bool) -> Content:
        """Joins what `Codec.encode` made of single values."""
        names = items[0].keys()
        if not ragged:
            return Content({name: np.stack([item[name] for item in items]) for name in names})
        lens = np.array([len(next(iter(item.values()))) for item in items], dtype=np.int64)
        return Content({name: np.concatenate([item[name] for item in items]) for name in names}, lens)


def local_positions(lens: np.ndarray) -> np.ndarray:
    """0..len-1 for each document, joined: int64 [sum(lens)]."""
    return np.arange(int(lens.sum()), dtype=np.int64) - np.repeat(np.cumsum(lens) - lens, lens)


@dataclass
class Segment:
    """One column's content for a group of m documents, in one role, ready to embed.

    `content` is what `Codec.embed` takes (any natural shape); it fills `lens[i]` positions of document i, n in all.
    `order` [n] counts from 0 in every document and never falls: a position sees those of its document whose order is
    not above its own. None: one block, all see each other. `reads` [r] are the positions (of n; of the other column's
    for a codec that reads on one) where something is predicted, `targets` [r, ...] what is right there;
    `targets["w"]` weighs each of them.
    """

    content: dict[str, np.ndarray]
    lens: np.ndarray
    order: np.ndarray | None = None
    reads: np.ndarray | None = None
    targets: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class On:
    """The positions of another column that an asked one reads on, in each of m documents.

    `lens` [m] is 0 where that column is missing. `frame` float32 [m, 2, 3], of pictures: takes a point of what is seen
    (x, y from -1 to 1 between the outer borders, and 1) to the same point of the original, in its pixels.
    """

    lens: np.ndarray
    frame: np.ndarray | None = None

    def state(self, device: torch.device) -> dict[str, Tensor]:
        """What an answer's state keeps of it, under the same names."""
        there = {"lens": self.lens} | ({} if self.frame is None else {"frame": self.frame})
        return {name: torch.from_numpy(array).to(device) for name, array in there.items()}


@dataclass
class Plan:
    """Who sees whom. A query sees a key iff they share a document, the key's branch is 0 or the query's own, and the
    key's order is not above the query's. Branch 0 holds what is given: an answer never depends on what else is asked.
    """

    doc_BT: Tensor  # -1 where padded
    branch_BT: Tensor
    order_BT: Tensor
    pos_BT: Tensor  # for rotary embedding; restarts in every column
    causal: bool = False  # one causal document a row: the attention kernel's causal flag says it all
    full: bool = False  # one block a row, no padding, the same positions in every row: everyone sees everyone
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

    def lengths(self) -> Tensor:
        """Positions of every document, int64 [m]; one that has none may be missing at the end."""
        return torch.bincount(self.doc_BT[self.doc_BT >= 0])

    def to(self, device: torch.device | str) -> Plan:
        arrays = [a.to(device, non_blocking=True) for a in (self.doc_BT, self.branch_BT, self.order_BT, self.pos_BT)]
        return Plan(*arrays, causal=self.causal, full=self.full)


@dataclass
class Embed:
    """Content of one column for the whole batch: n positions, the role of each, and its place in [B * T]."""

    content: dict[str, Tensor]
    role_n: Tensor
    flat_n: Tensor

    def to(self, device: torch.device | str) -> Embed:
        content = {k: v.to(device, non_blocking=True) for k, v in self.content.items()}
        return Embed(content, self.role_n.to(device, non_blocking=True), self.flat_n.to(device, non_blocking=True))


@dataclass
class Read:
    """What one objective reads of one column: targets [r, ...], flat positions [r], documents [r]."""

    targets: dict[str, Tensor]
    flat_r: Tensor
    doc_r: Tensor

    def to(self, device: torch.device | str) -> Read:
        targets = {k: v.to(device, non_blocking=True) for k, v in self.targets.items()}
        return Read(targets, self.flat_r.to(device), self.doc_r.to(device))


@dataclass
class Batch:
    """Packed documents. `reads[objective][column]`; `docs[objective]` the documents an objective planned, in order.

    `gather_N` [B * T] says which of the joined embeddings (columns in the order of `embeds`) stands at each place;
    their number is the index of padding. None: they already stand in order.
    """

    plan: Plan
    embeds: dict[str, Embed]
    gather_N: Tensor | None
    reads: dict[str, dict[str, Read]]
    docs: dict[str, Tensor]
    row: np.ndarray  # [m] the table row of each document
    counts: dict[str, float]  # loss name ("predict/label") to its count: known before the forward pass
    tokens: int  # positions that are not padding

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.plan.to(device),
            {name: e.to(device) for name, e in self.embeds.items()},
            None if self.gather_N is None else self.gather_N.to(device, non_blocking=True),
            {tag: {name: r.to(device) for name, r in reads.items()} for tag, reads in self.reads.items()},
            {tag: d.to(device) for tag, d in self.docs.items()},
            self.row,
            self.counts,
            self.tokens,
        )


@dataclass
class Loss:
    """A sum and a count, so that micro-batches, ragged batches and several processes give one result.

    `sum` carries the gradient; `count` is the sum of weights; `each` [r] (detached) and `doc` [r] say whose it was.
    """

    sum: Tensor
    count: Tensor
    each: Tensor | None = None
    doc: Tensor | None = None


@dataclass
class Answer:
    """One row's answer for one asked column, in the column's own units."""

    value: object
    probability: dict[str, float] | float | None = None  # of every class, or of the value
    interval: tuple[object, object] | None = None  # 90 % interval of a number or date
    samples: list[object] | None = None
    scores: list[float] | None = None  # of a ranked list, the probability of each; of a history, of each step
    quantiles: dict[float, object] | None = None  # by level, 0 to 1
    logprob: float | None = None  # natural log of the probability of the whole value
