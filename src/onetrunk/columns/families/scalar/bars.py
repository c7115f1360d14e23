"""Where the bars of a distribution over a line stand (`nn.heads.distribution`), learnt from the training values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# In standard units. A value that repeats has a high density there, never an infinite one; and a value far
# outside the training range costs a lot, but not millions of nats.
_BAR_WIDTH = 0.01
_MIN_TAIL = 0.05
_VALUES_PER_BAR = 4  # fewer bars on small data
_UNSEEN_SHARE = 0.02  # of the starting mass that is spread evenly, also over bars without a training value


@dataclass
class Bars:
    """`borders` [M] increase; `scales` are the standard deviations of the normals whose halves are the low and the
    high tail; `mass` [M + 1] is how much of the training values each bar holds, tails included."""

    borders: list[float]
    scales: list[float]
    mass: list[float]

    def __post_init__(self) -> None:
        counts = len(self.borders), len(self.scales), len(self.mass)
        if counts[0] < 1 or counts[1:] != (2, counts[0] + 1):
            raise ValueError(f"bars of {counts[0]} borders, {counts[1]} tails and {counts[2]} masses")

    def knowledge(self) -> dict[str, Any]:
        return asdict(self)

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Of the training values, as finely as borders tell them apart: standardised, [n]."""
        below = np.cumsum(self.mass)[:-1]  # each border
        return np.interp(levels, below, self.borders)


def fit_bars(values: np.ndarray, max_bars: int = 64) -> Bars:
    """Borders at quantiles of standardised training values [n], n ≥ 1, so that bars hold equally many.

    Borders lie between distinct values. A value that alone fills one of `max_bars` bars (40 among hours a
    week, 0 among gains) gets a narrow bar of its own; those that are left share the others.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    bars = int(np.clip(n // _VALUES_PER_BAR, 2, max_bars))
    atoms, rest = np.zeros(0), ordered
    while len(rest):  # what is left shares what bars are left: behind a heavy 0 the amounts keep their detail
        distinct, counts = np.unique(rest, return_counts=True)
        heavy = distinct[counts >= max(min(2, n), len(rest) / max(2, bars - len(atoms)))]
        if not len(heavy):
            break
        atoms = np.concatenate([atoms, heavy])
        rest = rest[~np.isin(rest, heavy)]

    bars = max(2, bars - len(atoms))
    ranks = np.arange(1, bars) * len(rest) // bars
    distinct = np.unique(ordered)
    left = np.searchsorted(distinct, rest[np.maximum(ranks, 1) - 1] if len(rest) else rest)  # before each cut
    left = left[left < len(distinct) - 1]
    cuts = (distinct[left] + distinct[left + 1]) / 2
    if len(atoms):
        cuts = cuts[np.abs(cuts[:, None] - atoms).min(axis=1) > _BAR_WIDTH / 2]
    around = np.concatenate([atoms - _BAR_WIDTH / 2, atoms + _BAR_WIDTH / 2])

    borders: list[float] = []
    for border in np.sort(np.concatenate([cuts, around])).tolist():
        if not borders or border - borders[-1] > _BAR_WIDTH / 2:
            borders.append(border)
    scales = []
    for outside in (borders[0] - ordered, ordered - borders[-1]):
        beyond = outside[outside > 0]
        likeliest = np.sqrt(np.mean(beyond**2)) if len(beyond) else 0.0  # maximum likelihood of a half-normal
        scales.append(max(float(likeliest), _MIN_TAIL))
    counts = np.bincount(np.searchsorted(borders, ordered), minlength=len(borders) + 1)
    held = counts + _UNSEEN_SHARE * n / len(counts)
    return Bars(borders, scales, (held / held.sum()).tolist())
