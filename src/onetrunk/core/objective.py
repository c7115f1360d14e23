"""The contract of an objective: one file in `objectives/` that defines an `Objective` and names it `OBJECTIVE`.

`assign_roles` chooses roles (on the CPU, keyed); `loss` turns what the view offers into named losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydantic import Field
from torch import Tensor

from onetrunk.core.batch import Loss
from onetrunk.core.column import Codec
from onetrunk.core.config import Config


class ObjectiveConfig(Config):
    """What one objective does in a step. A task fixes `given` and `ask`; without them roles are drawn."""

    kind: str
    weight: float = Field(1.0, ge=0)
    documents: int = Field(64, ge=1)  # a step
    given: list[str] | None = None
    ask: list[str] | None = None


@dataclass
class RoleAssignment:
    """Documents: rows of the table [m], and what each column does in them, its role [m, C] (values of `Role`).

    `unit` documents in a row stay in one micro-batch (two views of one row).
    """

    rows: np.ndarray
    roles: np.ndarray
    keys: np.ndarray
    unit: int = 1


class View(Protocol):
    """What an objective may look at after the trunk has run."""

    def losses(self, tag: str) -> dict[str, Loss]:
        """Every read of this objective through its column's read-out, as `tag/column`."""

    def pooled(self, tag: str) -> Tensor:
        """The mean of the given states of this objective's documents, as their roles were assigned: [k, D]."""


class Objective(ABC):
    """`tag` is its name in a run; `columns` are the run's columns in order, `codecs` theirs."""

    def __init__(self, tag: str, config: ObjectiveConfig, columns: list[str], codecs: list[Codec]) -> None:
        self.tag, self.config, self.columns, self.codecs = tag, config, columns, codecs

    @abstractmethod
    def pool(self, present: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """Rows to draw from, int64 [u], repeated where a row should come up more often. present, windows [rows, C]."""

    @abstractmethod
    def assign_roles(self, rows: np.ndarray, present: np.ndarray, keys: np.ndarray) -> RoleAssignment:
        """Roles for drawn rows [m], their present columns bool [m, C] and keys [m]."""

    @abstractmethod
    def loss(self, view: View) -> dict[str, Loss]:
        """Named losses; the names start with the tag."""

    def count(self, assigned: RoleAssignment) -> dict[str, float]:
        """Counts of losses that are not reads of a column (those are counted from their targets)."""
        return {}
