"""How well draws cover what is true, as a proper score of the distribution that they are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.metric import Metric

ENERGY = Metric("energy_score", False)


def energy_scores(
    answers: Sequence[Answer], truths: Sequence[Any], as_rows: Callable[[Sequence[Any]], np.ndarray]
) -> np.ndarray:
    """float64 [n]: the mean distance from a row's draws to what is true, less half of that between the draws (Gneiting
    and Raftery 2007, equation 22, with differing draws only). `as_rows` makes numbers [n, k] of values, whose root mean
    squared difference is the distance. An answer without `samples` is all that would ever be drawn."""
    true = as_rows(truths)
    draws = [as_rows([a.samples[s] if a.samples else a.value for a in answers]) for s in range(_count(answers))]
    to_truth: np.ndarray = np.mean([_distance(draw, true) for draw in draws], axis=0)
    between_draws = [_distance(a, b) for i, a in enumerate(draws) for b in draws[:i]]
    return to_truth - 0.5 * np.mean(between_draws, axis=0) if between_draws else to_truth


def _count(answers: Sequence[Answer]) -> int:
    """Draws that every answer has."""
    return min((len(a.samples) if a.samples else 1 for a in answers), default=1)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.sqrt(((a - b) ** 2).mean(1))
    return distance
