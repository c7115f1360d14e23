"""Two views of a row recognise each other among other rows: InfoNCE (arXiv 1807.03748), a bound on mutual information.

A view is the given states' mean after augmentation; with several columns each view leaves some of them out, so that
one column learns to recognise another (as CLIP, arXiv 2103.00020).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from onetrunk.core import rng
from onetrunk.core.batch import Loss
from onetrunk.core.content import Role
from onetrunk.core.objective import Objective, RoleAssignment, View

_TEMPERATURE = 0.2
_KEPT = 0.7  # how often a column is part of a view, when there are several


class Contrast(Objective):
    compares_rows = True

    def _viewable(self) -> np.ndarray:
        """Columns of which two different views can be made."""
        return np.array([encoder.divisible for encoder in self.encoders])

    def turns(self, present: np.ndarray, windows: np.ndarray) -> np.ndarray:
        return (present & self._viewable()).any(1)

    def assign_roles(self, rows: np.ndarray, present: np.ndarray, keys: np.ndarray) -> RoleAssignment:
        rows, able = np.repeat(rows, 2), np.repeat(present & self._viewable(), 2, axis=0)
        keys = rng.mix(np.repeat(keys, 2), "view", np.tile([0, 1], len(keys)))
        u = rng.uniform(rng.mix(keys, "roles"), 2, able.shape[1])
        kept = able & (u[:, 0] < _KEPT)
        kept[np.arange(len(rows)), np.where(able, u[:, 1], -1).argmax(1)] = True
        return RoleAssignment(rows, np.where(kept, Role.GIVEN, Role.ABSENT), keys, unit=2)

    def count(self, assigned: RoleAssignment) -> dict[str, float]:
        return {self.tag: float(len(assigned.rows))}

    def loss(self, view: View) -> dict[str, Loss]:
        z = F.normalize(view.pooled(self.tag).float(), dim=-1)
        n = len(z)
        similar = z @ z.T / _TEMPERATURE
        similar = similar.masked_fill(torch.eye(n, dtype=torch.bool, device=z.device), -torch.inf)
        partner = torch.arange(n, device=z.device) ^ 1
        losses = F.cross_entropy(similar, partner, reduction="none") if n else z.sum(-1)
        return {self.tag: Loss(losses.sum(), torch.tensor(float(n)), losses.detach())}


OBJECTIVE = Contrast
