"""FoundationModel: columns embed, the trunk mixes, columns read out. Forward and loss only."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from onetrunk.core.batch import Batch, Layout, Loss, Read
from onetrunk.core.column import Codec
from onetrunk.core.content import Content, On, Role, Segment
from onetrunk.core.encoder import Column
from onetrunk.core.objective import Objective
from onetrunk.nn.trunk import build_trunk


class Codecs(nn.Module):
    """Codecs by key, which may be any text. In the tree of modules each is a number, in the order in which they came:
    names of modules are split at dots, and must be no attribute of a module."""

    def __init__(self) -> None:
        super().__init__()
        self._number_of: dict[str, str] = {}

    def __setitem__(self, key: str, codec: Codec) -> None:
        self.add_module(self._number_of.setdefault(key, str(len(self._number_of))), codec)

    def __getitem__(self, key: str) -> Codec:
        return self._modules[self._number_of[key]]

    def __contains__(self, key: object) -> bool:
        return key in self._number_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._number_of)

    def __len__(self) -> int:
        return len(self._number_of)

    def keys(self) -> KeysView[str]:
        return self._number_of.keys()

    def items(self) -> list[tuple[str, Codec]]:
        return [(key, self[key]) for key in self]

    def parameter_name(self, key: str, name: str) -> str:
        """The name, in the model's state, of what the codec itself calls `name`."""
        return f"codecs.{self._number_of[key]}.{name}"


@dataclass
class Teacher:
    """A model from which another learns beside the truth: loss = (1 - weight) of the truth + weight T² KL(teacher's ||
    own), at every read of an asked column (arXiv 1503.02531). It is no part of its student's weights."""

    model: FoundationModel
    weight: float
    temperature: float

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self


class FoundationModel(nn.Module):
    """One trunk for all columns. Codecs are fitted before and built here.

    `given` says whether what is given sees itself whole ("bidirectional") or only what came before ("causal").
    """

    def __init__(self, trunk: dict[str, Any], columns: Sequence[Column], codecs: dict[str, Codec], given: str) -> None:
        super().__init__()
        self.trunk = build_trunk(trunk)
        self.width = self.trunk.config.width
        self.given_causal = given == "causal"
        self.columns: dict[str, Column] = {}
        self.codecs = Codecs()
        # What tells a column, and a role in it, from every other: added to each of its positions.
        self.markers = nn.ParameterDict()
        self._marker_of: dict[str, str] = {}
        self.objectives: list[Objective] = []
        self._costs: dict[tuple[str, bool], float] = {}
        self.teacher: Teacher | None = None
        for column in columns:
            self.add_column(column, codecs[column.codec])

    def add_column(self, column: Column, codec: Codec, like: Sequence[str] = ()) -> None:
        """Makes a column known, with a new codec (of a name not yet taken) or one it shares. Its markers begin as the
        mean of those of the columns `like`: a trained trunk knows what to gather for an answer of that kind."""
        if column.codec not in self.codecs:
            codec.build(self.width)
            self.codecs[column.codec] = codec
        index = str(len(self.columns))
        self.columns[column.name] = column
        begun = torch.randn(len(Role), self.width) * 0.05
        if like:
            begun = torch.stack([self.marker(name).detach() for name in like]).mean(0)
        self.markers[index] = nn.Parameter(begun)
        self._marker_of[column.name] = index

    def codec(self, column: str) -> Codec:
        return self.codecs[self.columns[column].codec]

    def marker(self, column: str) -> Tensor:
        """[roles, D]"""
        return self.markers[self._marker_of[column]]

    def embed(self, column: str, content: dict[str, Tensor], role_n: Tensor) -> Tensor:
        """Content of one column to [n, D]."""
        return self.codec(column).embed(content) + nn.functional.embedding(role_n, self.marker(column))

    def embeddings(self, batch: Batch, run: Sequence[str] = ()) -> Tensor:
        """x_BTD: every column's, where it stands; zeros where there is padding. Columns of `run` that the batch lacks
        are run on nothing."""
        parts = [self.embed(name, e.content, e.role_n) for name, e in batch.embeds.items()]
        for name in run:
            if name not in batch.embeds:
                nothing = _tensors(_blanks(self.codec(name), Role.GIVEN, 0).content, parts[0].device)
                parts.append(self.embed(name, nothing, torch.zeros(0, dtype=torch.int64, device=parts[0].device)))
        if batch.gather_N is None:
            x = torch.cat(parts) if len(parts) > 1 else parts[0]
        else:
            padding = parts[0].new_zeros(1, self.width)
            x = torch.cat([*(part.to(padding.dtype) for part in parts), padding])[batch.gather_N]
        return x.view(*batch.layout.doc_BT.shape, -1)

    def states(self, batch: Batch, run: Sequence[str] = ()) -> Tensor:
        """h [B * T, D]."""
        return self.trunk(self.embeddings(batch, run), batch.layout).flatten(0, 1)

    def forward(self, batch: Batch) -> dict[str, Loss]:
        """Every objective's named losses: the same names for every batch. What a batch lacks is run on nothing and
        counts 0, so that every process of a run does the same."""
        run = self.objectives[0].columns if self.objectives else []
        view = BatchView(self, batch, self.states(batch, run))
        losses: dict[str, Loss] = {}
        for objective in self.objectives:
            losses |= objective.loss(view)
        return losses

    def flops(self, batch: Batch) -> float:
        """Floating-point operations of a training step on the batch, by formula: 6 for every weight and position it
        meets (2 forward, 4 backward) and 12 for every number of a pair that attention compares. Additions, norms and
        lookups are not counted, nor are padding, hidden pairs and what is computed again."""
        total = self.trunk.flops(batch.layout)
        for name, embed in batch.embeds.items():
            total += self._cost(name, len(embed.flat_n), embed.content)
        for reads in batch.reads.values():
            for name, read in reads.items():
                total += self._cost(name, len(read.flat_r), read.targets, reading=True)
        return total

    @torch.no_grad()
    def _cost(self, column: str, count: int, content: dict[str, Tensor], reading: bool = False) -> float:
        """Operations of embedding a column's `count` positions, or of reading it there, forward and backward: as many
        for each as PyTorch counts in the first batch that has any."""
        if not count:
            return 0.0
        if (column, reading) not in self._costs:
            codec = self.codec(column)
            device = next(codec.parameters()).device
            tensors = {name: x.to(device) for name, x in content.items()}
            with FlopCounterMode(display=False) as counter:
                if reading:
                    codec.loss(torch.zeros(count, self.width * (2 if codec.pooled else 1), device=device), tensors)
                else:
                    codec.embed(tensors)
            self._costs[column, reading] = 3 * counter.get_total_flops() / count
        return count * self._costs[column, reading]


class BatchView:
    """What objectives may look at after the trunk has run (`core.objective.View`)."""

    def __init__(self, model: FoundationModel, batch: Batch, h_ND: Tensor) -> None:
        self.model, self.batch, self.h_ND = model, batch, h_ND

    @cached_property
    def _pooled(self) -> Tensor:
        return pooled_given(self.h_ND, self.batch.layout, len(self.batch.row))

    def pooled(self, tag: str) -> Tensor:
        docs = self.batch.docs.get(tag)
        return self._pooled[:0] if docs is None else self._pooled[docs]

    def losses(self, tag: str) -> dict[str, Loss]:
        objective = next(o for o in self.model.objectives if o.tag == tag)
        reads, out = self.batch.reads.get(tag, {}), {}
        for name in objective.columns if objective.config.ask is None else objective.config.ask:
            codec = self.model.codec(name)
            read = reads.get(name) or _no_read(codec, self.h_ND.device)
            h = self._read(name, read)
            loss = codec.loss(h, read.targets)
            if self.model.teacher is not None and self.model.training:
                loss = self._taught(name, read, h, loss)
            loss.doc = read.doc_r
            out[f"{tag}/{name}"] = loss
        return out

    def _read(self, name: str, read: Read) -> Tensor:
        """What a column's read-out is told: [r, D] or [r, 2 D]."""
        h = self.h_ND[read.flat_r]
        return torch.cat([h, self._pooled[read.doc_r]], dim=1) if self.model.codec(name).pooled else h

    @cached_property
    def _teachers(self) -> BatchView:
        with torch.no_grad():
            model = self.model.teacher.model
            return BatchView(model, self.batch, model.states(self.batch))

    def _taught(self, name: str, read: Read, h: Tensor, truth: Loss) -> Loss:
        teacher, w = self.model.teacher, read.targets["w"]
        with torch.no_grad():
            theirs = self._teachers._read(name, read)
        each = self.model.codec(name).divergence(h, teacher.model.codec(name), theirs, teacher.temperature)
        total = torch.lerp(truth.sum, (each * w).sum(), teacher.weight)
        return Loss(total, truth.count, None if truth.each is None else truth.each.lerp(each.detach(), teacher.weight))


def pooled_given(h_ND: Tensor, layout: Layout, n_docs: int) -> Tensor:
    """The mean of each document's states of branch 0; zeros where nothing is given: [m, D]."""
    doc = torch.where(layout.branch_BT == 0, layout.doc_BT, -1).flatten()
    doc = torch.where(doc < 0, n_docs, doc)
    sums = h_ND.new_zeros(n_docs + 1, h_ND.shape[1]).index_add(0, doc, h_ND)
    counts = torch.zeros(n_docs + 1, device=doc.device, dtype=h_ND.dtype)
    counts = counts.index_add(0, doc, torch.ones_like(doc, dtype=h_ND.dtype))
    return (sums / counts.clamp(min=1)[:, None])[:n_docs]


def _blanks(codec: Codec, role: Role, m: int) -> Segment:
    """The segment of m documents that hold nothing in particular."""
    content = Content.stack([codec.blank()], codec.ragged).take(np.zeros(m, dtype=np.int64))
    on = On(np.ones(m, dtype=np.int64), np.tile(np.eye(2, 3, dtype=np.float32), (m, 1, 1)))
    told = {"on": on} if role == Role.ASKED and codec.reads_on() else {}
    return codec.segment(content, role, np.zeros(m, dtype=np.uint64), **told)


def _no_read(codec: Codec, device: torch.device) -> Read:
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return Read(_tensors(_blanks(codec, Role.ASKED, 0).targets, device), none, none)


def _tensors(arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}
