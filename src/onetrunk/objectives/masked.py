"""Hide parts of values and fill them in place from the rest (arXiv 1810.04805 for text, 2111.06377 for images)."""

from __future__ import annotations

import numpy as np

from onetrunk.core import rng
from onetrunk.core.batch import Loss
from onetrunk.core.content import Role
from onetrunk.core.objective import Objective, RoleAssignment, View

_BESIDE = 0.5  # how often a column that is not masked is shown beside the masked ones


class Masked(Objective):
    def _maskable(self) -> np.ndarray:
        """Columns with parts; where there are none (a plain table), any: a whole value is then hidden or shown."""
        asked = set(self.config.ask) if self.config.ask is not None else set(self.columns)
        chosen = np.array([name in asked for name in self.columns])
        divisible = np.array([encoder.divisible for encoder in self.encoders]) & chosen
        return divisible if divisible.any() else chosen

    def turns(self, present: np.ndarray, windows: np.ndarray) -> np.ndarray:
        return windows.max(1, where=present & self._maskable(), initial=0)

    def assign_roles(self, rows: np.ndarray, present: np.ndarray, keys: np.ndarray) -> RoleAssignment:
        able = present & self._maskable()
        u = rng.uniform(rng.mix(keys, "roles"), 2, present.shape[1])
        columns = zip(self.encoders, self._maskable(), strict=True)
        whole = not any(encoder.divisible for encoder, able_one in columns if able_one)
        rate = rng.uniform(rng.mix(keys, "rate"), 1) if whole else 0.7
        masked = able & (u[:, 0] < rate)
        masked[np.arange(len(rows)), np.where(able, u[:, 1], -1).argmax(1)] = True
        beside = np.where(able | (u[:, 0] < _BESIDE), Role.GIVEN, Role.ABSENT)
        return RoleAssignment(rows, np.where(present, np.where(masked, Role.MASKED, beside), Role.ABSENT), keys)

    def loss(self, view: View) -> dict[str, Loss]:
        return view.losses(self.tag)


OBJECTIVE = Masked
