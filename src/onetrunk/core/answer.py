"""What a model answers: one value of one column, in the column's own units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Answer:
    """One row's answer for one asked column, in the column's own units."""

    value: object
    probability: dict[str, float] | float | None = None  # of every class, or of the value
    interval: tuple[object, object] | None = None  # 90 % interval of a number or date
    samples: list[object] | None = None
    scores: list[float] | None = None  # of a ranked list, the probability of each; of a history, of each step
    quantiles: dict[float, object] | None = None  # by level, 0 to 1
    logprob: float | None = None  # natural log of the probability of the whole value
