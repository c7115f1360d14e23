"""How simple models choose their settings: by the loss on held-out rows, as far as there is time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

_MANY_ROWS = 1000  # from here on three folds tell as much as five
_FLOOR = 1e-5  # probability of a class that a model does not know


class TooLong(Exception):
    """A baseline would take longer than it may."""


class Deadline:
    """So many seconds from now, by any clock."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        return self._end - self.clock()

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds that it takes."""
        began = self.clock()
        work()
        return self.clock() - began


def folds_of(y: np.ndarray, classes: bool, seed: int = 0) -> list[np.ndarray]:
    """Rows held out in turn; of every class its share."""
    count = min(5 if len(y) <= _MANY_ROWS else 3, len(y))
    order = np.random.default_rng(seed).permutation(len(y))
    if classes and y.ndim == 1:
        order = order[np.argsort(y[order], kind="stable")]
    return [np.sort(order[k::count]) for k in range(count)]


def climb(loss: Callable[[int], float | None], count: int, start: int) -> tuple[int, dict[int, float]]:
    """The index from 0 to `count` with the least loss, found by going on as long as it falls; what was tried. `loss`
    gives None when there is no more time."""
    tried: dict[int, float] = {}

    def better(index: int, best: int) -> bool:
        value = loss(index) if 0 <= index < count else None
        if value is None:
            return False
        tried[index] = value
        return value < tried[best]

    first = loss(start)
    if first is None:
        return start, tried
    tried[start] = first
    best = start
    for step in (1, -1):
        while better(best + step, best):
            best += step
        if best != start:
            break
    return best, tried


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    """Nats of class numbers y [n] or labels y [n, K], by probabilities p [n, K]."""
    p = np.clip(p, _FLOOR, 1 - _FLOOR)
    if y.ndim == 2:
        return float(-np.where(y > 0, np.log(p), np.log1p(-p)).mean())
    return float(-np.log(p[np.arange(len(y)), y]).mean())


def rest_of(held: np.ndarray, count: int) -> np.ndarray:
    return np.setdiff1d(np.arange(count), held)


def sample_of(y: np.ndarray, share: float, classes: bool, seed: int = 0) -> np.ndarray:
    """Some rows, for a try: of every class its share, and at least one."""
    order = np.random.default_rng(seed).permutation(len(y))
    if not classes or y.ndim == 2:
        return np.sort(order[: max(2, round(share * len(y)))])
    first = np.unique(y[order], return_index=True)[1]
    return np.unique(np.concatenate([order[first], order[: round(share * len(y))]]))


def as_numbers(y: Sequence[object] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes in order, and each row's as a number."""
    classes, number = np.unique(np.asarray(y), return_inverse=True)
    return classes, number
