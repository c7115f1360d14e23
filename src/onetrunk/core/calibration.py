"""The calibration of an asked column: how sure its answers are is corrected after training, on rows that training did
not learn from ("refine, then calibrate", arXiv 2501.19195). It is kept in the model folder.

Which answer is given does not change: only how sure it is. NumPy only.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

MAX_SCORES = 1000  # conformal scores that are kept: of more rows every thousandth part


@dataclass(frozen=True)
class Calibration:
    """Of one asked column. `before` and `after` are what it was fitted by, on the same rows: `log_loss` (nats) and
    `ece` of classes; `interval_score` (in standard units) and `coverage` of the 90 % intervals of numbers."""

    rows: int
    fitted_on: str  # "validation rows", or "rows held out in cross-validation"
    temperature: float = 1.0  # logits are divided by it (Guo et al., arXiv 1706.04599)
    doubt: float = 0.0  # share of the probability that all classes have alike
    spread: float = 1.0  # a number's distribution is this many times as wide, around its mean
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)  # conformal scores of these rows, rising (`kept_scores`)

    def threshold(self, coverage: float) -> float | None:
        """The score that a new row's true value exceeds with a probability of at most 1 - `coverage`, as far as it is
        like these rows: the ceil((rows + 1) coverage)-th smallest (split conformal prediction, arXiv 2107.07511). None
        where there are too few rows for that."""
        rank = self.rank(coverage)
        if not self.scores or rank > self.rows:
            return None
        if len(self.scores) == self.rows:
            return self.scores[rank - 1]
        part = math.ceil(coverage * (MAX_SCORES + 1) - 1e-9)
        return self.scores[part - 1] if part <= MAX_SCORES else None

    def rank(self, coverage: float) -> int:
        """Which of the scores, from 1 on, `threshold` is, as far as there are so many."""
        return math.ceil((self.rows + 1) * coverage - 1e-9)

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Calibration:
        """The inverse of `as_json`. Raises TypeError for other fields, and for numbers that cannot be."""
        made = cls(**fields)
        numbers = {"temperature": made.temperature, "spread": made.spread, "doubt": made.doubt}
        for name, number in numbers.items():
            above, below = (0.0, 1.0) if name == "doubt" else (1e-9, 1e9)
            if isinstance(number, bool) or not isinstance(number, int | float) or not above <= number <= below:
                raise TypeError(f"a calibration's {name} should be from {above:g} to {below:g}; it is {number!r}")
        if not all(isinstance(score, int | float) for score in made.scores) or made.scores != sorted(made.scores):
            raise TypeError("a calibration's scores should be numbers that rise")
        if len(made.scores) not in (0, min(made.rows, MAX_SCORES)):
            raise TypeError(f"{made.rows} rows have {min(made.rows, MAX_SCORES)} scores; found {len(made.scores)}")
        return made

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def class_scores(p: np.ndarray, ordered: bool = False) -> np.ndarray:
    """Conformal scores of every class, from probabilities p [r, K]: how unlikely it is (least ambiguous sets, arXiv
    1609.00451), so that sets are as small as they can be. Of levels in order those between two likely ones are as
    likely: sets then have no gaps."""
    if ordered and len(p):
        rising, falling = (np.maximum.accumulate(x, axis=1) for x in (p, p[:, ::-1]))
        p = np.minimum(rising, falling[:, ::-1])
    return 1 - p


def kept_scores(scores: np.ndarray, weights: np.ndarray | None = None) -> list[float]:
    """Conformal scores as a calibration keeps them: of r rows all, or `MAX_SCORES` of them at even distances. `scores`
    float64 [r]; or [r, K] of every class with its share `weights` [r, K], where what is true is a distribution."""
    flat, rows = np.asarray(scores, dtype=np.float64).ravel(), len(scores)
    held = np.full(len(flat), 1.0) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    order = np.argsort(flat, kind="stable")
    reached = np.cumsum(held[order])
    count = min(rows, MAX_SCORES)
    # Of n + 1 places between n sorted scores each is as likely for a new row's: the ranks are of n + 1.
    ranks = np.arange(1, count + 1) if count == rows else np.ceil((rows + 1) * np.arange(1, count + 1) / (count + 1))
    at = np.searchsorted(reached, np.minimum(ranks, rows) / rows * reached[-1] - 1e-9)
    return [float(f"{x:.9g}") for x in np.maximum.accumulate(flat[order][np.minimum(at, len(flat) - 1)])]


def doubt_after(rows: int, classes: int) -> float:
    """The share of the probability that all classes have alike, so that no answer is surer than what Laplace's rule of
    succession allows after `rows` rows that were learnt from or looked at: 1 - 1 / (rows + 2)."""
    return classes / (max(1, classes - 1) * (rows + 2))
