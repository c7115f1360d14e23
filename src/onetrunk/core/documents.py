"""Batches of one row each, alike in every shape, so that one computation serves all of them (`torch.func.vmap`).

k rows. What is equal in all rows, as the layout mostly is, is kept once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.batch import Batch, Change, Embed, Layout, Read

Name = tuple[str, ...]
Tensors = dict[Name, Tensor]


@dataclass
class Documents:
    """`own` [k, ...] differ from row to row, `shared` do not; `like` is the first row's batch. `counts` and `tokens`
    are of all rows together."""

    own: Tensors
    shared: Tensors
    like: Batch
    row: np.ndarray  # [k] the table row of each
    counts: dict[str, float]
    tokens: int

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> Documents:
        """Of batches that are alike (`alike`)."""
        parts = [_tensors(batch) for batch in batches]
        own, shared = {}, {}
        for name, first in parts[0].items():
            if all(torch.equal(first, part[name]) for part in parts[1:]):
                shared[name] = first
            else:
                own[name] = torch.stack([part[name] for part in parts])
        counts: dict[str, float] = {}
        for batch in batches:
            for loss, count in batch.counts.items():
                counts[loss] = counts.get(loss, 0.0) + count
        rows = np.array([batch.row[0] for batch in batches])
        return cls(own, shared, batches[0], rows, counts, sum(batch.tokens for batch in batches))

    @classmethod
    def split(cls, together: Batch, first: Batch, last: Batch) -> Documents | None:
        """Of one batch in which every document has a sequence of its own, and of what its first and last row are alone.
        None where it does not fall into equal parts that are these two at its ends."""
        k, wanted = len(together.row), _tensors(first)
        whole = _tensors(together)
        if whole.keys() - {("gather",)} != wanted.keys() - {("gather",)}:
            return None
        width = together.layout.doc_BT.shape[1]
        parts: Tensors = {}
        for name, alone in wanted.items():
            if name[0] in ("flat", "gather", "docs"):  # where things stand, which the shapes decide
                parts[name] = alone.expand(k, *alone.shape)
                continue
            if whole[name].shape != (k * alone.shape[0], *alone.shape[1:]):
                return None
            part = whole[name].reshape(k, *alone.shape)
            if name[0] == "read" or name[0] == "doc" or name == ("layout", "doc_BT"):  # are numbered through
                step = torch.arange(k) * (width if name[0] == "read" else 1)
                moved = part - step.reshape(-1, *[1] * alone.ndim)
                part = torch.where(part < 0, part, moved)
            parts[name] = part
        for batch, at in ((first, 0), (last, k - 1)):
            end = _tensors(batch)
            if end.keys() != parts.keys() or not all(torch.equal(parts[name][at], end[name]) for name in end):
                return None
        if not torch.equal(parts["layout", "doc_BT"], parts["layout", "doc_BT"][:1].expand(k, -1, -1)):
            return None
        shared = {name: part[0] for name, part in parts.items() if bool((part == part[:1]).all())}
        own = {name: part for name, part in parts.items() if name not in shared}
        return cls(own, shared, first, together.row, dict(together.counts), together.tokens)

    def take(self, rows: slice) -> Documents:
        """Some of the rows. What is counted is counted of all of them still."""
        own = {name: tensor[rows] for name, tensor in self.own.items()}
        return replace(self, own=own, row=self.row[rows])

    def batch(self, own: Mapping[Name, Tensor]) -> Batch:
        """One row's batch, of its own tensors."""
        return _with(self.like, {**self.shared, **own})

    def singles(self) -> Iterator[Batch]:
        """Each row's batch."""
        for i in range(len(self)):
            yield self.batch({name: tensor[i] for name, tensor in self.own.items()})

    def to(self, device: torch.device) -> Documents:
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Documents:
        """As `Batch.pinned`."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Change) -> Documents:
        own, shared = (
            {name: change(tensor) for name, tensor in tensors.items()} for tensors in (self.own, self.shared)
        )
        return replace(self, own=own, shared=shared)


def alike(batches: Iterable[Batch]) -> list[list[Batch]]:
    """Batches by shape, those of one shape in their order."""
    groups: dict[object, list[Batch]] = {}
    for batch in batches:
        shapes = tuple((name, tensor.shape) for name, tensor in sorted(_tensors(batch).items()))
        groups.setdefault((shapes, batch.layout.causal, batch.layout.full), []).append(batch)
    return list(groups.values())


def _tensors(batch: Batch) -> Tensors:
    """Every tensor of a batch, by where it is."""
    layout = batch.layout
    out: Tensors = {("layout", name): getattr(layout, name) for name in ("doc_BT", "branch_BT", "order_BT", "pos_BT")}
    for column, embed in batch.embeds.items():
        out |= {("content", column, name): tensor for name, tensor in embed.content.items()}
        out |= {("facts", column, name): tensor for name, tensor in embed.facts.items()}
        out |= {("role", column): embed.role_n, ("flat", column): embed.flat_n}
    if batch.gather_N is not None:
        out["gather",] = batch.gather_N
    for tag, reads in batch.reads.items():
        for column, read in reads.items():
            out |= {("targets", tag, column, name): tensor for name, tensor in read.targets.items()}
            out |= {("read", tag, column): read.flat_r, ("doc", tag, column): read.doc_r}
    out |= {("docs", tag): docs for tag, docs in batch.docs.items()}
    return out | {("wide", column): wide for column, wide in batch.wide.items()}


def _with(batch: Batch, tensors: Mapping[Name, Tensor]) -> Batch:
    """The batch with other tensors."""
    old = batch.layout
    layout = Layout(
        tensors["layout", "doc_BT"],
        tensors["layout", "branch_BT"],
        tensors["layout", "order_BT"],
        tensors["layout", "pos_BT"],
        causal=old.causal,
        full=old.full,
    )
    embeds = {
        column: Embed(
            {name: tensors["content", column, name] for name in embed.content},
            tensors["role", column],
            tensors["flat", column],
            {name: tensors["facts", column, name] for name in embed.facts},
        )
        for column, embed in batch.embeds.items()
    }
    reads = {
        tag: {
            column: Read(
                {name: tensors["targets", tag, column, name] for name in read.targets},
                tensors["read", tag, column],
                tensors["doc", tag, column],
            )
            for column, read in reads.items()
        }
        for tag, reads in batch.reads.items()
    }
    return replace(
        batch,
        layout=layout,
        embeds=embeds,
        gather_N=None if batch.gather_N is None else tensors["gather",],
        reads=reads,
        docs={tag: tensors["docs", tag] for tag in batch.docs},
        wide={column: tensors["wide", column] for column in batch.wide},
    )
