"""Batches of private training: every row is in a step with one probability, whoever else is (Poisson sampling).

That is what the accountant reckons with; rows dealt out evenly, as `data.loader` does, give another guarantee.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onetrunk.core import rng
from onetrunk.core.batch import Batch
from onetrunk.core.content import Role
from onetrunk.core.documents import Documents, alike
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import RoleAssignment
from onetrunk.core.secret import Secret
from onetrunk.data.loader import Loader
from onetrunk.data.pack import assemble


@dataclass(eq=False, kw_only=True)
class PoissonLoader(Loader):
    """`loader(step)` draws rows, which may be none. A drawn row is one document of one objective, drawn in proportion
    to how many documents each has; windows of one row count as the row.

    The `secret` says which rows are drawn. Rows of one shape stand together, about `tokens_per_batch` positions each.
    """

    secret: Secret

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.store.index)
        self._able = np.zeros((len(self._drawn), n), dtype=bool)  # which rows each objective can use
        for i, (_, pool) in enumerate(self._drawn):
            self._able[i] = pool.drawn
        self.pool = np.flatnonzero(self._able.any(0))
        documents = sum(objective.config.documents for objective, _ in self._drawn)
        self.rate = min(1.0, documents / len(self.pool))  # the probability of each row in each step

    def __call__(self, step: int) -> list[Documents]:  # type: ignore[override]  # rows by themselves
        out: list[Documents] = []
        for tag, assigned in self._assigned(step, self.drawn(step)):
            for some in self._of_one_shape(assigned):
                out += self._documents(tag, some)
        return out

    def part(self, step: int, wanted: Callable[[int], bool]) -> list[Batch | None]:
        raise UsageError("Private training makes its steps in one process: start it without torchrun.")

    def drawn(self, step: int) -> np.ndarray:
        """The rows of a step, int64."""
        chosen = self.secret.generator("rows", step).random(len(self.pool)) < self.rate
        return self.pool[chosen]

    def rows_per_epoch(self, tag: str) -> int:
        return int(self._able[[objective.tag for objective, _ in self._drawn].index(tag)].sum())

    def _assigned(self, step: int, rows: np.ndarray) -> list[tuple[str, RoleAssignment]]:
        """What each objective makes of its rows."""
        shares = np.array([objective.config.documents for objective, _ in self._drawn], dtype=np.float64)
        likely = np.cumsum(self._able[:, rows] * shares[:, None], axis=0)
        u = rng.uniform(rng.mix(rng.key(self.seed, step, "objective"), rows)).reshape(-1)
        which = (likely <= u * likely[-1]).sum(0)
        out = []
        for i, (objective, _) in enumerate(self._drawn):
            own = rows[which == i]
            if len(own):
                keys = rng.mix(rng.key(self.seed, step, objective.tag), own)
                out.append((objective.tag, objective.assign_roles(own, self._present[own], keys)))
        return out

    def _of_one_shape(self, assigned: RoleAssignment) -> list[RoleAssignment]:
        """Rows in the same roles with values of the same lengths, not too many together."""
        lengths = np.where(assigned.roles != Role.ABSENT, self._positions[assigned.rows], 0)
        shapes = np.concatenate([assigned.roles, lengths], axis=1)
        _, which = np.unique(shapes, axis=0, return_inverse=True)
        out = []
        for shape in range(int(which.max(initial=-1)) + 1):
            chosen = np.flatnonzero(which.reshape(-1) == shape)
            positions = int(lengths[chosen[0]].sum())
            at_once = max(1, self.tokens_per_batch // max(1, positions))
            for first in range(0, len(chosen), at_once):
                out.append(_taken(assigned, chosen[first : first + at_once]))
        return out

    def _documents(self, tag: str, assigned: RoleAssignment) -> list[Documents]:
        """Of rows that should be of one shape: made all at once where they are, else each by itself."""
        n = len(assigned.rows)
        if n > 2:
            ends = (self._batch(tag, _taken(assigned, np.array([at]))) for at in (0, n - 1))
            if (split := Documents.split(self._batch(tag, assigned), *ends)) is not None:
                return [split]
        each = (_taken(assigned, np.array([at])) for at in range(n))
        return [Documents.of(group) for group in alike(self._batch(tag, row) for row in each)]

    def _batch(self, tag: str, assigned: RoleAssignment) -> Batch:
        objective = next(objective for objective, _ in self._drawn if objective.tag == tag)
        batch = assemble({tag: assigned}, self.store, given_causal=self.given_causal, augment=self.augment, apart=True)
        batch.counts |= objective.count(assigned)
        return batch


def _taken(assigned: RoleAssignment, index: np.ndarray) -> RoleAssignment:
    return RoleAssignment(assigned.rows[index], assigned.roles[index], assigned.keys[index])
