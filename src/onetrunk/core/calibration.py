"""The calibration of an asked column: how sure its answers are is corrected after training, on rows that training did
not learn from ("refine, then calibrate", arXiv 2501.19195). It is kept in the model folder.

Which answer is given does not change: only how sure it is. NumPy only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


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

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Calibration:
        """The inverse of `as_json`. Raises TypeError for other fields, and for numbers that cannot be."""
        made = cls(**fields)
        numbers = {"temperature": made.temperature, "spread": made.spread, "doubt": made.doubt}
        for name, number in numbers.items():
            above, below = (0.0, 1.0) if name == "doubt" else (1e-9, 1e9)
            if isinstance(number, bool) or not isinstance(number, int | float) or not above <= number <= below:
                raise TypeError(f"a calibration's {name} should be from {above:g} to {below:g}; it is {number!r}")
        return made

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def doubt_after(rows: int, classes: int) -> float:
    """The share of the probability that all classes have alike, so that no answer is surer than what Laplace's rule of
    succession allows after `rows` rows that were learnt from or looked at: 1 - 1 / (rows + 2)."""
    return classes / (max(1, classes - 1) * (rows + 2))
