"""Checks on a person's own rows that an export answers as the model does, before anything is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrunk.core.errors import EvidenceError


@dataclass
class Parity:
    """`worst` is the largest difference of any number, relative to the root mean square of the model's own numbers of
    its kind; `equal` of `rows` answers (tokens, of a language model) were the same."""

    worst: float = 0.0
    rows: int = 0
    equal: int = 0

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Numbers of one kind, equally shaped."""
        scale = float(np.sqrt(np.mean(np.square(ours, dtype=np.float64)))) or 1.0
        worst = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0)) / scale
        self.worst = max(self.worst, worst if np.isfinite(worst) else float("inf"))

    def count(self, ours: Sequence[Any] | np.ndarray, theirs: Sequence[Any] | np.ndarray) -> None:
        self.rows += len(ours)
        self.equal += sum(bool(a == b) for a, b in zip(ours, theirs, strict=True))

    def check(self, tolerance: float, what: str) -> None:
        """Raises EvidenceError where the difference is above the tolerance."""
        if not self.worst <= tolerance:
            raise EvidenceError(
                f"{what} does not answer as the model does: its numbers differ by {self.worst:.2g} of their size, "
                f"expected at most {tolerance:g}; {self.equal:,} of {self.rows:,} answers are equal. "
                "Nothing was written. --tolerance allows more."
            )

    def as_json(self, tolerance: float) -> dict[str, Any]:
        return {"worst_difference": self.worst, "tolerance": tolerance, "rows": self.rows, "equal_answers": self.equal}
