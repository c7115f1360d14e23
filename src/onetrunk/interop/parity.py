"""Checks on a person's own rows that an export answers as the model does, before anything is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onetrunk.core.errors import EvidenceError

_SHOWN = 60  # characters of an answer in a message


@dataclass
class Parity:
    """`worst` is the largest difference of any number, relative to the root mean square of the model's own numbers of
    its kind; `equal` of `rows` whole answers were the same. An answer that is not has a gap: by how much, relative as
    `worst`, the model itself prefers its own. `faults` are what the files hold that was not written so."""

    worst: float = 0.0
    rows: int = 0
    equal: int = 0
    gap: float = 0.0
    unlike: str = ""  # the answer with the largest gap, for a person
    faults: list[str] = field(default_factory=list)

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Numbers of one kind, equally shaped."""
        scale = float(np.sqrt(np.mean(np.square(ours, dtype=np.float64)))) or 1.0
        worst = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0)) / scale
        self.worst = max(self.worst, worst if np.isfinite(worst) else float("inf"))

    def answer(self, ours: Any, theirs: Any, gap: float = float("inf")) -> None:
        """One whole answer."""
        self.rows += 1
        if ours == theirs:
            self.equal += 1
        elif not self.gap > gap:
            self.gap = gap if np.isfinite(gap) else float("inf")
            self.unlike = f"{str(theirs)[:_SHOWN]!r} where the model says {str(ours)[:_SHOWN]!r}"

    def count(self, ours: Sequence[Any] | np.ndarray, theirs: Sequence[Any] | np.ndarray) -> None:
        """Whole answers that must be the same."""
        for one, other in zip(ours, theirs, strict=True):
            self.answer(one, other)

    def same(self, what: str, written: Any, read: Any) -> None:
        """What was written, and what the file holds of it."""
        if written != read:
            self.faults.append(f"{what} is {str(read)[:_SHOWN]!r}, expected {str(written)[:_SHOWN]!r}")

    def check(self, tolerance: float, what: str) -> None:
        """Raises EvidenceError where a number differs by more than the tolerance; an answer does, though the model
        prefers its own by more than that; or a file holds something else than was written."""
        if self.faults:
            raise EvidenceError(f"{what} does not hold what was written: {self.faults[0]}. Nothing was written.")
        if not self.worst <= tolerance:
            raise EvidenceError(
                f"{what} does not answer as the model does: its numbers differ by {self.worst:.2g} of their size, "
                f"expected at most {tolerance:g}; {self.equal:,} of {self.rows:,} answers are equal. "
                "Nothing was written. --tolerance allows more."
            )
        if not self.gap <= 2 * tolerance:  # both sides of a comparison may be off by as much
            raise EvidenceError(
                f"{what} does not answer as the model does: {self.rows - self.equal:,} of {self.rows:,} answers "
                f"differ, such as {self.unlike}. Nothing was written."
            )

    def as_json(self, tolerance: float) -> dict[str, Any]:
        return {"worst_difference": self.worst, "tolerance": tolerance, "rows": self.rows, "equal_answers": self.equal}
