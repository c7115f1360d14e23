"""Intervals of measured figures: bootstrap over rows (Efron 1979); Wilson's (1927) for proportions.

Resamples are keyed: resample j of n rows takes the same rows in every call with one seed, so the resampled
figures of two models on the same rows can be subtracted draw by draw, which is the paired bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from onetrunk.core import rng

LEVEL = 0.95
_CELLS_AT_ONCE = 4_000_000
_MIN_DEFINED = 0.5  # of the resamples: with fewer, an interval would describe the lucky ones only

RowsFigure = Callable[[np.ndarray], float | None]


@dataclass(frozen=True)
class Interval:
    """A figure on all rows, and the ends of its interval at `LEVEL`."""

    value: float
    low: float
    high: float

    def excludes(self, figure: float) -> bool:
        return not self.low <= figure <= self.high


def bootstrap(
    values: np.ndarray,
    statistic: Callable[..., Any] = np.mean,
    n: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Interval of a statistic (called with `axis=-1`) of one number a row, from n resamples of the rows."""
    values = np.asarray(values, dtype=np.float64)
    return _percentiles(float(statistic(values, axis=-1)), row_draws(values, statistic, n, seed), level)


def wilson(successes: float, n: int, level: float = LEVEL) -> Interval:
    """Interval of a proportion; holds also near 0 and 1, where the bootstrap's shrinks to a point."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half))


# -- draws -------------------------------------------------------------------------------------------------
def row_draws(values: np.ndarray, statistic: Callable[..., Any] = np.mean, n: int = 1000, seed: int = 0) -> np.ndarray:
    """The statistic of n resamples of `values` [rows]: float64 [n]."""
    return np.concatenate([statistic(values[index], axis=-1) for index in _resamples(len(values), n, seed)])


def metric_draws(fn: RowsFigure, n_rows: int, n: int = 200, seed: int = 0) -> np.ndarray:
    """The metric of n resamples of the rows: float64 [n], NaN where undefined."""
    drawn = [fn(index) for chunk in _resamples(n_rows, n, seed) for index in chunk]
    return np.array([math.nan if value is None else value for value in drawn], dtype=np.float64)


def interval(value: float | None, draws: np.ndarray, level: float = LEVEL) -> Interval | None:
    """The percentile interval of a figure and its resampled figures; None where either says too little."""
    defined = draws[np.isfinite(draws)]
    if value is None or not math.isfinite(value) or len(defined) < max(1, _MIN_DEFINED * len(draws)):
        return None
    return _percentiles(value, defined, level)


def _percentiles(value: float, draws: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def _resamples(n_rows: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """Row indices [k, n_rows] in chunks, n resamples in all."""
    if not n_rows:
        return
    keys = rng.mix(rng.key(seed, "bootstrap"), np.arange(n))
    at_once = max(1, _CELLS_AT_ONCE // n_rows)
    for first in range(0, n, at_once):
        yield rng.integers(keys[first : first + at_once], n_rows, n_rows)
