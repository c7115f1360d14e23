"""FoundationModel: columns embed, the trunk mixes, columns read out. Forward and loss only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from onetrunk.core.column import Codec, Column
from onetrunk.core.objective import Objective
from onetrunk.core.sequence import Batch, Loss, Plan, Role
from onetrunk.nn.trunk import build_trunk


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
        self.codecs = nn.ModuleDict()
        # What tells a column, and a role in it, from every other: added to each of its positions.
        self.markers = nn.ParameterDict()
        self._marker_of: dict[str, str] = {}
        self.objectives: list[Objective] = []
        for column in columns:
            self.add_column(column, codecs[column.codec])

    def add_column(self, column: Column, codec: Codec) -> None:
        """Makes a column known, with a new codec (of a name not yet taken) or one it shares."""
        if column.codec not in self.codecs:
            codec.build(self.width)
            self.codecs[column.codec] = codec
        index = str(len(self.columns))
        self.columns[column.name] = column
        self.markers[index] = nn.Parameter(torch.randn(len(Role), self.width) * 0.05)
        self._marker_of[column.name] = index

    def codec(self, column: str) -> Codec:
        return self.codecs[self.columns[column].codec]

    def marker(self, column: str) -> Tensor:
        """[roles, D]"""
        return self.markers[self._marker_of[column]]

    def embed(self, column: str, content: dict[str, Tensor], role_n: Tensor) -> Tensor:
        """Content of one column to [n, D]."""
        return self.codec(column).embed(content) + nn.functional.embedding(role_n, self.marker(column))

    def embeddings(self, batch: Batch) -> Tensor:
        """x_BTD: every column's, where it stands; zeros where there is padding."""
        parts = [self.embed(name, e.content, e.role_n) for name, e in batch.embeds.items()]
        if batch.gather_N is None:
            x = torch.cat(parts) if len(parts) > 1 else parts[0]
        else:
            padding = parts[0].new_zeros(1, self.width)
            x = torch.cat([*(part.to(padding.dtype) for part in parts), padding])[batch.gather_N]
        return x.view(*batch.plan.doc_BT.shape, -1)

    def states(self, batch: Batch) -> Tensor:
        """h [B * T, D]."""
        return self.trunk(self.embeddings(batch), batch.plan).flatten(0, 1)

    def forward(self, batch: Batch) -> dict[str, Loss]:
        """Every objective's named losses."""
        view = BatchView(self, batch, self.states(batch))
        losses: dict[str, Loss] = {}
        for objective in self.objectives:
            if objective.tag in batch.docs:
                losses |= objective.loss(view)
        return losses


class BatchView:
    """What objectives may look at after the trunk has run (`core.objective.View`)."""

    def __init__(self, model: FoundationModel, batch: Batch, h_ND: Tensor) -> None:
        self.model, self.batch, self.h_ND = model, batch, h_ND

    @cached_property
    def _pooled(self) -> Tensor:
        return pooled_given(self.h_ND, self.batch.plan, len(self.batch.row))

    def pooled(self, tag: str) -> Tensor:
        return self._pooled[self.batch.docs[tag]]

    def losses(self, tag: str) -> dict[str, Loss]:
        out = {}
        for name, read in self.batch.reads[tag].items():
            codec = self.model.codec(name)
            h = self.h_ND[read.flat_r]
            if codec.pooled:
                h = torch.cat([h, self._pooled[read.doc_r]], dim=1)
            loss = codec.loss(h, read.targets)
            loss.doc = read.doc_r
            out[f"{tag}/{name}"] = loss
        return out


def pooled_given(h_ND: Tensor, plan: Plan, n_docs: int) -> Tensor:
    """The mean of each document's states of branch 0; zeros where nothing is given: [m, D]."""
    doc = torch.where(plan.branch_BT == 0, plan.doc_BT, -1).flatten()
    doc = torch.where(doc < 0, n_docs, doc)
    sums = h_ND.new_zeros(n_docs + 1, h_ND.shape[1]).index_add(0, doc, h_ND)
    counts = torch.zeros(n_docs + 1, device=doc.device, dtype=h_ND.dtype)
    counts = counts.index_add(0, doc, torch.ones_like(doc, dtype=h_ND.dtype))
    return (sums / counts.clamp(min=1)[:, None])[:n_docs]
