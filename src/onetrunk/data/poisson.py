"""Batches of private training: every row is in a step with one probability, whoever else is (Poisson sampling).

That is what the accountant reckons with; rows dealt out evenly, as `data.loader` does, give another guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onetrunk.core import rng
from onetrunk.core.batch import Batch
from onetrunk.core.documents import Documents, alike
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import Objective, RoleAssignment
from onetrunk.core.secret import Secret
from onetrunk.data.loader import Loader
from onetrunk.data.pack import assemble
from onetrunk.data.store import Store


class PoissonLoader(Loader):
    """`loader(step)` draws rows, which may be none. A drawn row is one document of one objective, drawn in proportion
    to how many documents each has, or `views` of them in other noise; windows of one row count as the row.

    The `secret` says which rows are drawn. Rows of one shape stand together, about `tokens_per_batch` positions each.
    """

    def __init__(
        self,
        store: Store,
        objectives: Sequence[Objective],
        *,
        seed: int,
        tokens_per_batch: int,
        secret: Secret,
        views: int = 1,
        given_causal: bool = False,
        augment: bool = True,
    ) -> None:
        super().__init__(
            store, objectives,
            seed=seed, tokens_per_batch=tokens_per_batch, given_causal=given_causal, augment=augment,
        )  # fmt: skip
        self.secret, self.views = secret, views
        n = len(store.index)
        self._able = np.zeros((len(self._drawn), n), dtype=bool)  # which rows each objective can use
        for i, (_, pool) in enumerate(self._drawn):
            self._able[i, pool] = True
        self.pool = np.flatnonzero(self._able.any(0))
        documents = sum(objective.config.documents for objective, _ in self._drawn)
        self.rate = min(1.0, documents / len(self.pool))  # the probability of each row in each step

    def __call__(self, step: int) -> list[Documents]:  # type: ignore[override]  # rows by themselves
        rows = self.drawn(step)
        groups = alike(batch for tag in self._assigned(step, rows) for batch in self._singles(tag))
        return [Documents.of(some) for group in groups for some in self._of_size(group)]

    def part(self, step: int, wanted: Callable[[int], bool]) -> list[Batch | None]:
        raise UsageError("Private training makes its steps in one process: start it without torchrun.")

    def drawn(self, step: int) -> np.ndarray:
        """The rows of a step, int64."""
        chosen = self.secret.generator("rows", step).random(len(self.pool)) < self.rate
        return self.pool[chosen]

    def rows_per_epoch(self, tag: str) -> int:
        return int(self._able[[objective.tag for objective, _ in self._drawn].index(tag)].sum())

    def _assigned(self, step: int, rows: np.ndarray) -> list[tuple[str, RoleAssignment]]:
        """What each objective makes of its rows, `views` of each in a row."""
        shares = np.array([objective.config.documents for objective, _ in self._drawn], dtype=np.float64)
        likely = np.cumsum(self._able[:, rows] * shares[:, None], axis=0)
        u = rng.uniform(rng.mix(rng.key(self.seed, step, "objective"), rows)).reshape(-1)
        which = (likely <= u * likely[-1]).sum(0)
        out = []
        for i, (objective, _) in enumerate(self._drawn):
            own = np.repeat(rows[which == i], self.views)
            if len(own):
                view = np.arange(len(own)) % self.views
                keys = rng.mix(rng.key(self.seed, step, objective.tag), own, view)
                out.append((objective.tag, objective.assign_roles(own, self._present[own], keys)))
        return out

    def _singles(self, of_tag: tuple[str, RoleAssignment]) -> list[Batch]:
        """Each row by itself."""
        tag, assigned = of_tag
        objective = next(objective for objective, _ in self._drawn if objective.tag == tag)
        out = []
        for first in range(0, len(assigned.rows), self.views):
            here = slice(first, first + self.views)
            row = RoleAssignment(assigned.rows[here], assigned.roles[here], assigned.keys[here])
            batch = assemble(
                {tag: row}, self.store, given_causal=self.given_causal, augment=self.augment, apart=self.views > 1
            )
            batch.counts |= objective.count(row)
            out.append(batch)
        return out

    def _of_size(self, group: list[Batch]) -> list[list[Batch]]:
        at_once = max(1, self.tokens_per_batch // max(1, group[0].tokens))
        return [group[first : first + at_once] for first in range(0, len(group), at_once)]
