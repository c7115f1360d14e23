"""A model together with its objectives: the module that a run trains."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core import rng
from onetrunk.core.batch import Batch, Loss, Read, tensors_of
from onetrunk.core.content import Content, ReadPositions, Role, Segment
from onetrunk.core.encoder import Encoder, SegmentContext, reads_on
from onetrunk.core.hidden import Hidden
from onetrunk.core.objective import BatchEncoder, LossGroup, Objective

M = TypeVar("M", bound=BatchEncoder)


class Learner(nn.Module, Generic[M]):
    """`forward(batch)` gives every objective's named losses: the same names for every batch. What a batch lacks is run
    on nothing and counts 0, so that every process of a run does the same.

    `seed` draws the first values of parameters that objectives own.
    """

    def __init__(self, model: M, objectives: Sequence[Objective], seed: int = 0) -> None:
        super().__init__()
        self.model = model
        self.objectives: Sequence[Objective] = nn.ModuleList(objectives)  # type: ignore[assignment]  # has no element type
        for objective in objectives:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(rng.torch_seed(seed, "objective", objective.tag))
                objective.build(model.width)
            objective.to(next(model.parameters()).device)

    def forward(self, batch: Batch, wanted: Collection[str] | None = None) -> dict[str, Loss]:
        """`wanted` names the losses that are asked for; None: all."""
        view = _View(self.model, batch, self.objectives, wanted)
        losses: dict[str, Loss] = {}
        for objective in self.objectives:
            losses |= objective.loss(view)
        return losses if wanted is None else {name: loss for name, loss in losses.items() if name in wanted}

    def groups(self) -> list[LossGroup]:
        """What objectives train apart from the model."""
        return [group for objective in self.objectives for group in objective.groups()]


class _View:
    """`core.objective.View`."""

    def __init__(
        self, model: BatchEncoder, batch: Batch, objectives: Sequence[Objective], wanted: Collection[str] | None
    ) -> None:
        self.model, self.batch, self._wanted = model, batch, wanted
        self._objectives = {objective.tag: objective for objective in objectives}

    @cached_property
    def hidden(self) -> Hidden:
        device = self.batch.layout.doc_BT.device
        columns = next(iter(self._objectives.values())).columns
        lacking = {n: _on_nothing(self.model, n, device) for n in columns if n not in self.batch.embeds}
        return self.model.encode(self.batch, embeddings=lacking)

    def wants(self, name: str) -> bool:
        return self._wanted is None or name in self._wanted

    def reads(self, tag: str) -> dict[str, Read]:
        objective, reads = self._objectives[tag], self.batch.reads.get(tag, {})
        columns = objective.columns if objective.config.ask is None else objective.config.ask
        device = self.batch.layout.doc_BT.device
        return {name: reads.get(name) or _no_read(self.model.encoder(name), device) for name in columns}

    def losses(self, tag: str) -> dict[str, Loss]:
        losses: dict[str, Loss] = {}
        for name, at in self.reads(tag).items():
            if self.wants(f"{tag}/{name}"):
                loss = self.model.module(name).loss(self.model.read(self.hidden, name, at), at.targets)
                loss.doc = at.doc_r
                losses[f"{tag}/{name}"] = loss
        return losses

    def pooled(self, tag: str) -> Tensor:
        docs = self.batch.docs.get(tag)
        return self.hidden.pooled_MD[:0] if docs is None else self.hidden.pooled_MD[docs]


def _on_nothing(model: BatchEncoder, column: str, device: torch.device) -> Tensor:
    """Embeddings [0, D] of a column that the batch lacks: its parameters take part all the same."""
    content = tensors_of(blanks(model.encoder(column), Role.GIVEN, 0).content, device)
    return model.embed(column, content, torch.zeros(0, dtype=torch.int64, device=device))


def blanks(encoder: Encoder, role: Role, m: int) -> Segment:
    """The segment of m documents that hold nothing in particular."""
    content = Content.stack([encoder.blank()], encoder.ragged).take(np.zeros(m, dtype=np.int64))
    nowhere = ReadPositions(np.zeros(m, dtype=np.int64)) if role == Role.ASKED and reads_on(encoder) else None
    return encoder.segment(content, SegmentContext(role, np.zeros(m, dtype=np.uint64), read_positions=nowhere))


def _no_read(encoder: Encoder, device: torch.device) -> Read:
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return Read(tensors_of(blanks(encoder, Role.ASKED, 0).targets, device), none, none)
