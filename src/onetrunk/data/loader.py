"""The batches of a step: a pure function of (seed, step), so that resuming and several processes need no state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from onetrunk.core import rng
from onetrunk.core.batch import Batch
from onetrunk.core.content import Role
from onetrunk.core.errors import DataError
from onetrunk.core.objective import Objective, RoleAssignment
from onetrunk.data.mixture import Pool, draw
from onetrunk.data.pack import assemble
from onetrunk.data.store import Store

DRAWING = 3  # raised when the same seed and step draw or pack rows otherwise: then no checkpoint can go on exactly

Lengths = dict[str, np.ndarray]  # objective -> a number for each of its documents


@dataclass(eq=False)
class Loader:
    """`loader(step)` draws every objective's documents, plans their roles and packs them into micro-batches.

    Micro-batches hold about `tokens_per_batch` positions each, documents of similar length together; there are as many
    of them as `shares`, or a multiple, so that as many processes have as much to do.
    """

    store: Store
    objectives: Sequence[Objective]
    _: KW_ONLY
    seed: int
    tokens_per_batch: int
    given_causal: bool = False
    augment: bool = True
    shares: int = 1

    def __post_init__(self) -> None:
        self._present = self.store.present
        self._positions = self.store.positions()
        windows = self.store.windows()
        mixed = self.store.mixture
        self._drawn: list[tuple[Objective, Pool]] = []
        self._pools: dict[str, list[tuple[Pool, int]]] = {}
        for objective in self.objectives:
            pool = Pool.of(turns := objective.turns(self._present, windows))
            if len(pool):
                self._drawn.append((objective, pool))
                self._pools[objective.tag] = [(pool, len(pool))] if mixed is None else mixed.pools(turns)
        if not self._drawn:
            raise DataError("No row can be trained on: the columns to predict are empty in every training row.")

    def __call__(self, step: int) -> list[Batch]:
        return [self._assembled(micro_batch) for micro_batch in self._micro_batches(step) if micro_batch is not None]

    def part(self, step: int, wanted: Callable[[int], bool]) -> list[Batch | None]:
        """The step's micro-batches, None for those that are not wanted: they are not made."""
        return [None if one is None else self._assembled(one) for one in self._micro_batches(step, wanted)]

    def rows(self, step: int, wanted: Callable[[int], bool] = lambda index: True) -> list[np.ndarray | None]:
        """The table's rows that are drawn for each of the step's micro-batches, None for those that are not wanted."""
        drawn = self._micro_batches(step, wanted)
        return [None if one is None else np.concatenate([group.rows for group in one.values()]) for one in drawn]

    def _assembled(self, micro_batch: dict[str, RoleAssignment]) -> Batch:
        batch = assemble(micro_batch, self.store, given_causal=self.given_causal, augment=self.augment)
        for objective, _ in self._drawn:
            if objective.tag in micro_batch:
                batch.counts |= objective.count(micro_batch[objective.tag])
        return batch

    def rows_per_epoch(self, tag: str) -> int:
        """How many draws one pass over an objective's pool takes."""
        return next(len(pool) for objective, pool in self._drawn if objective.tag == tag)

    def _assign_roles(self, objective: Objective, step: int) -> RoleAssignment:
        count = objective.config.documents
        draws = np.arange(step * count, (step + 1) * count)
        rows = draw(self._pools[objective.tag], draws, self.seed, "epoch", objective.tag)
        keys = rng.mix(rng.key(self.seed, step, objective.tag), rows, np.arange(count))
        return objective.assign_roles(rows, self._present[rows], keys)

    def _micro_batches(
        self, step: int, wanted: Callable[[int], bool] = lambda index: True
    ) -> list[dict[str, RoleAssignment] | None]:
        """The documents of each of a step's micro-batches, by objective."""
        groups = {objective.tag: self._assign_roles(objective, step) for objective, _ in self._drawn}
        lengths = {tag: self._lengths(group) for tag, group in groups.items()}
        count = -(-sum(int(x.sum()) for x in lengths.values()) // self.tokens_per_batch)
        count = -(-count // self.shares) * self.shares
        if count <= 1:
            return [groups if wanted(0) else None]
        units = {tag: group.unit for tag, group in groups.items()}
        which_of = (_by_length if self.shares == 1 else _by_length_and_evenly)(lengths, units, count)
        used = np.unique(np.concatenate(list(which_of.values())))
        return [_chosen(groups, which_of, k) if wanted(i) else None for i, k in enumerate(used.tolist())]

    def _lengths(self, group: RoleAssignment) -> np.ndarray:
        return np.where(group.roles != Role.ABSENT, self._positions[group.rows], 0).sum(1)


def _chosen(groups: dict[str, RoleAssignment], which_of: Lengths, k: int) -> dict[str, RoleAssignment]:
    """The documents of micro-batch `k`."""
    out = {}
    for tag, group in groups.items():
        chosen = which_of[tag] == k
        if chosen.any():
            out[tag] = RoleAssignment(group.rows[chosen], group.roles[chosen], group.keys[chosen], group.unit)
    return out


def _by_length(lengths: Lengths, units: dict[str, int], count: int) -> dict[str, np.ndarray]:
    """In which of `count` micro-batches each document goes: those of similar length together."""
    every = np.sort(np.concatenate([np.repeat(x, x) for x in lengths.values()]))
    borders = every[[len(every) * k // count for k in range(1, count)]]  # equal shares of the positions
    of_one_length = max(float((every == border).mean()) for border in set(borders.tolist()))
    out = {}
    for tag, unit in units.items():
        longest = lengths[tag].reshape(-1, unit).max(1).repeat(unit)
        which = np.searchsorted(borders, longest, side="left")
        if of_one_length * count > 1:  # many of one length: spread them evenly
            low, high = np.searchsorted(borders, longest), np.searchsorted(borders, longest, side="right")
            turn = np.arange(len(longest)) // unit
            which = low + turn % (high - low + 1)
        out[tag] = which
    return out


def _by_length_and_evenly(lengths: Lengths, units: dict[str, int], count: int) -> dict[str, np.ndarray]:
    """The same, and each micro-batch with about as many positions as another, also where all documents are of one
    length: else some processes would wait for others."""
    of_units = {tag: each.reshape(-1, units[tag]) for tag, each in lengths.items()}
    sizes = np.concatenate([each.sum(1) for each in of_units.values()])
    order = np.argsort(np.concatenate([each.max(1) for each in of_units.values()]), kind="stable")
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    which = np.empty(len(order), dtype=np.int64)
    which[order] = np.minimum(middle * count // sizes.sum(), count - 1)
    ends = np.cumsum([len(each) for each in of_units.values()])[:-1]
    return {tag: part.repeat(units[tag]) for tag, part in zip(of_units, np.split(which, ends), strict=True)}
