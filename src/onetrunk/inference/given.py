"""The given columns of rows: which they are, how long they are, and their states in the trunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.batch import Batch
from onetrunk.core.content import Content, ReadPositions, Role
from onetrunk.core.errors import DataError
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.pack import assemble
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.model import FoundationModel


def nothing_given(expected: list[str], table: Table) -> DataError:
    """The error for a table that has none of the columns a model looks at."""
    where = "The rows have" if table.source == "memory" else f"{table.source} has"
    return DataError(
        f"{where} none of the columns to predict from: expected {', '.join(expected)}, found "
        f"{', '.join(table.names)}. If only the names differ, say which is which: --map {expected[0]}={table.names[0]}"
    )


def without(given: Sequence[str], asked: Sequence[str], table: Table) -> list[str]:
    """A sentence on the given columns that a table does not have, if there are such. Raises DataError where it has none
    of them, and nothing of what is asked that could be gone on from or filled in."""
    absent = [name for name in given if name not in table.columns]
    if absent and len(absent) == len(given) and not any(name in table.columns for name in asked):
        raise nothing_given(list(given), table)
    return [f"The table has no column {', '.join(absent)}; its rows are answered without."] if absent else []


@dataclass
class GivenRows:
    """Some rows of a store, and the names of the columns that are given in them."""

    store: Store
    rows: np.ndarray  # int64 [n]
    given: Sequence[str]

    def roles(self) -> np.ndarray:
        """int64 [n, C]"""
        chosen = np.array([name in self.given for name in self.store.names], dtype=bool)
        return np.where(self.store.present[self.rows] & chosen, Role.GIVEN, Role.ABSENT)

    def lengths(self) -> np.ndarray:
        """Positions of what is given, int64 [n]."""
        return np.asarray(self.lengths_by_column().sum(1))

    def lengths_by_column(self) -> np.ndarray:
        """int64 [n, C]"""
        return np.where(self.roles() == Role.GIVEN, self.store.positions()[self.rows], 0)


def join_rows(model: FoundationModel, groups: Sequence[GivenRows]) -> GivenRows:
    """Rows of several stores as rows of one, in which whatever a row has is given."""
    if len(groups) == 1:
        return groups[0]
    names = [
        name for name in model.columns if any(name in group.given and name in group.store.names for group in groups)
    ]
    contents, index = [], np.full((sum(len(group.rows) for group in groups), len(names)), -1, dtype=np.int64)
    for c, name in enumerate(names):
        pieces, first, count = [], 0, 0
        for group in groups:
            if name in group.given and name in group.store.names:
                column = group.store.names.index(name)
                values_there = group.store.index[group.rows, column]
                there = np.flatnonzero(values_there >= 0)
                pieces.append(group.store.contents[column].take(values_there[there]))
                index[first + there, c] = count + np.arange(len(there))
                count += len(there)
            first += len(group.rows)
        contents.append(Content.join(pieces))
    store = Store(names, [model.encoder(name) for name in names], contents, index)
    return GivenRows(store, np.arange(len(index)), names)


@dataclass
class Given:
    """What the trunk made of n rows: the mean of their states [n, D] (zeros where nothing is given), and the states."""

    pooled: Tensor
    batch: Batch | None = None
    h_NTD: Tensor | None = None

    def positions_of(self, column: str) -> tuple[ReadPositions, Tensor]:
        """Where a column stands in each row, and its states [n, t, D], padded at the end."""
        n, width = self.pooled.shape
        if self.batch is None or self.h_NTD is None or column not in self.batch.embeds:
            return ReadPositions(np.zeros(n, dtype=np.int64)), self.pooled.new_zeros(n, 0, width)
        embed, device = self.batch.embeds[column], self.pooled.device
        doc = self.batch.layout.doc_BT.flatten()[embed.flat_n]
        lens = doc.bincount(minlength=n)
        local = torch.arange(len(doc), device=device) - (lens.cumsum(0) - lens)[doc]
        h_NTD = self.pooled.new_zeros(n, int(lens.max()), width)
        h_NTD[doc, local] = self.h_NTD.flatten(0, 1)[embed.flat_n].to(h_NTD.dtype)
        held, facts = lens.nonzero()[:, 0], {}
        for name, fact in embed.facts.items():
            facts[name] = fact.new_zeros(n, *fact.shape[1:]).index_copy(0, held, fact).cpu().numpy()
        return ReadPositions(lens.cpu().numpy(), facts), h_NTD


def read_given(model: FoundationModel, rows: GivenRows, keys: np.ndarray, cache: Any) -> Given:
    """Runs what is given in the rows through the trunk, into a cache of as many documents. `keys` uint64 [n]."""
    roles, weight = rows.roles(), next(model.parameters())
    if not (roles == Role.GIVEN).any():
        return Given(torch.zeros(len(roles), model.width, device=weight.device))
    group = RoleAssignment(rows.rows, roles, keys)
    batch = assemble({"given": group}, rows.store, given_causal=model.given_causal, augment=False, apart=True)
    if not batch.embeds:  # empty texts, which take no position
        return Given(torch.zeros(len(roles), model.width, device=weight.device))
    batch = batch.to(weight.device)
    hidden = model.encode(batch, cache=cache)
    return Given(hidden.pooled_MD, batch, hidden.h_BTD)
