"""Predict some columns of a row from others: any from any in pretraining, the task's choice in fine-tuning."""

from __future__ import annotations

import numpy as np

from onetrunk.core import rng
from onetrunk.core.batch import Loss
from onetrunk.core.content import Role
from onetrunk.core.module import Guided
from onetrunk.core.objective import Objective, RoleAssignment, View

_ALSO_ASKED, _ALSO_GIVEN = (
    0.15,
    0.75,
)  # what becomes of the other columns when roles are drawn; the rest is absent
_GIVEN_DROPPED = 0.1  # fine-tuning leaves out each given column this often, so that one may be missing later


class Predict(Objective):
    def turns(self, present: np.ndarray, windows: np.ndarray) -> np.ndarray:
        asked = [self.config.ask is None or name in self.config.ask for name in self.columns]
        turns = windows.max(1, where=present & np.array(asked), initial=0)
        if self.config.ask is not None:
            return turns
        # Rows with several columns teach how columns go together and may be few beside the others: they make up half.
        together = present.sum(1) > 1
        times = int(turns.sum()) // max(1, int(together.sum()))
        return turns + times * together if times > 1 else turns

    def assign_roles(self, rows: np.ndarray, present: np.ndarray, keys: np.ndarray) -> RoleAssignment:
        drawn = self._fixed(present, keys) if self.config.ask is not None else self._free(present, keys)
        return RoleAssignment(rows, np.where(present, drawn, Role.ABSENT), keys)

    def _fixed(self, present: np.ndarray, keys: np.ndarray) -> np.ndarray:
        roles = np.full(present.shape, Role.ABSENT)
        given = [i for i, name in enumerate(self.columns) if self.config.given is None or name in self.config.given]
        asked = [self.columns.index(name) for name in self.config.ask or ()]
        given = [i for i in given if i not in asked]
        if given:
            # Guidance compares with nothing given (arXiv 2207.12598).
            unconditional = all(issubclass(self.module_type(name), Guided) for name in self.config.ask or ())
            rate = _GIVEN_DROPPED if unconditional or len(given) > 1 else 0
            kept = rng.uniform(rng.mix(keys, "drop"), len(given)) >= rate
            if not unconditional:
                kept[~(kept & present[:, given]).any(1)] = True
            roles[:, given] = np.where(kept, Role.GIVEN, Role.ABSENT)
        roles[:, asked] = Role.ASKED
        return roles

    def _free(self, present: np.ndarray, keys: np.ndarray) -> np.ndarray:
        u = rng.uniform(rng.mix(keys, "roles"), 2, present.shape[1])
        others = np.where(u[:, 0] < _ALSO_ASKED, Role.ASKED, Role.ABSENT)
        others = np.where((u[:, 0] >= _ALSO_ASKED) & (u[:, 0] < _ALSO_ASKED + _ALSO_GIVEN), Role.GIVEN, others)
        first = np.where(present, u[:, 1], -1).argmax(1)  # one present column, evenly drawn, is always asked
        others[np.arange(len(present)), first] = Role.ASKED
        return others

    def loss(self, view: View) -> dict[str, Loss]:
        return view.losses(self.tag)


OBJECTIVE = Predict
