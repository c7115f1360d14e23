"""Does a model treat groups alike? Figures by group, how far they are apart, and how far chance would put them.

The largest of several differences is never 0, so beside each gap stands the gap of shuffled groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from onetrunk.core import rng
from onetrunk.evaluation import intervals
from onetrunk.evaluation.audit.groups import Groups
from onetrunk.evaluation.audit.record import Gap, GroupFigure, GroupMetric
from onetrunk.evaluation.intervals import Interval, wilson
from onetrunk.evaluation.judge import METRIC_RESAMPLES

CHANCE = 0.99  # of shuffles: what they stay below is called chance
FEWEST_ROWS = 30  # of a group whose figure counts in a gap
_SHUFFLES = 1000
_RESAMPLES = 1000
_CELLS_AT_ONCE = 4_000_000
_MAX_CLASSES = 10
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "precision")


def rate_rows(rate: str, true: np.ndarray, answered: np.ndarray, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Which rows a rate of the class `of` counts, and among which: bool [n] each. `true` and `answered` are names."""
    is_true, is_answered = true == of, answered == of
    return {
        "selection_rate": (is_answered, np.ones(len(true), dtype=bool)),
        "true_positive_rate": (is_answered, is_true),
        "false_positive_rate": (is_answered, ~is_true),
        "precision": (is_true, is_answered),
    }[rate]


def class_rates(
    true: np.ndarray, answered: np.ndarray, classes: Sequence[str], groups: Groups, seed: int
) -> list[GroupMetric]:
    """How often each class is answered in each group: altogether, where it is true, where it is not; and how often it
    is true where it is answered. Of two classes the second is enough: the first has the rest."""
    if len(classes) == 2:
        chosen = list(classes[1:])
    else:
        counts = {name: int((true == name).sum()) for name in classes}
        chosen = sorted(classes, key=lambda name: -counts[name])[:_MAX_CLASSES]
    out = []
    for of in chosen:
        for rate in RATES:
            hit, among = rate_rows(rate, true, answered, of)
            out.append(compare_means(rate, of, hit.astype(np.float64), among, groups, seed))
    return out


def compare_means(
    name: str, of: str, each: np.ndarray, among: np.ndarray, groups: Groups, seed: int = 0
) -> GroupMetric:
    """A figure that is a mean of a number a row, `each` float64 [n], over each group's rows of `among` bool [n]."""
    index = [np.flatnonzero(among & (groups.of == g)) for g in range(len(groups.names))]
    share = bool(np.isin(each[among], (0.0, 1.0)).all())
    figures = []
    for group, rows in zip(groups.names, index, strict=True):
        value = None
        if len(rows):
            value = wilson(float(each[rows].sum()), len(rows)) if share else intervals.bootstrap(each[rows], seed=seed)
        figures.append(GroupFigure(group, len(rows), value))
    large = _large_enough(figures)
    if len(large) < 2:
        return GroupMetric(name, of, figures, None)
    high, low = _ends(figures, large)
    a, b = figures[high].value, figures[low].value
    assert a is not None and b is not None
    if share:
        apart = newcombe(a, b)
    else:
        draws = [
            intervals.row_draws(each[index[g]], np.mean, _RESAMPLES, rng.key(seed, "group", g)) for g in (high, low)
        ]
        apart = intervals.interval(a.value - b.value, draws[0] - draws[1]) or Interval(
            a.value - b.value, math.nan, math.nan
        )
    sizes = np.array([len(index[g]) for g in large])
    pooled = each[np.concatenate([index[g] for g in large])]
    null = _shuffled(pooled, sizes, rng.key(seed, "shuffled groups", name, of))
    return GroupMetric(name, of, figures, _gap(groups.names[high], groups.names[low], apart, *null))


def compare_metric(
    name: str, metric: Callable[[np.ndarray], float | None], groups: Groups, seed: int = 0
) -> GroupMetric:
    """A figure that is no mean over rows: `metric` of the numbers of some rows."""
    index = [np.flatnonzero(groups.of == g) for g in range(len(groups.names))]
    drawn, figures = [], []
    for g, (group, rows) in enumerate(zip(groups.names, index, strict=True)):

        def of_some(some: np.ndarray, rows: np.ndarray = rows) -> float | None:
            return metric(rows[some])

        draws = intervals.metric_draws(of_some, len(rows), METRIC_RESAMPLES, rng.key(seed, "group", g))
        drawn.append(draws)
        figures.append(
            GroupFigure(group, len(rows), intervals.interval(metric(rows), draws) if len(rows) > 1 else None)
        )
    large = _large_enough(figures)
    if len(large) < 2:
        return GroupMetric(name, "", figures, None)
    high, low = _ends(figures, large)
    a, b = figures[high].value, figures[low].value
    assert a is not None and b is not None
    apart = intervals.interval(a.value - b.value, drawn[high] - drawn[low])
    if apart is None:
        return GroupMetric(name, "", figures, None)
    pooled, ends = np.concatenate([index[g] for g in large]), np.cumsum([len(index[g]) for g in large])[:-1]
    null = []
    for shuffle in range(METRIC_RESAMPLES):
        order = pooled[rng.permutation(rng.key(seed, "shuffled groups", shuffle), len(pooled))]
        values = [value for rows in np.split(order, ends) if (value := metric(rows)) is not None]
        null.append(max(values) - min(values) if len(values) > 1 else math.nan)
    gaps = np.array(null)[np.isfinite(null)]
    as_far = int((gaps >= apart.value - 1e-12).sum())
    return GroupMetric(name, "", figures, _gap(groups.names[high], groups.names[low], apart, gaps, as_far))


def newcombe(a: Interval, b: Interval) -> Interval:
    """The difference of two independent shares, from Wilson's interval of each (Newcombe 1998, method 10)."""
    d = a.value - b.value
    low = d - math.hypot(a.value - a.low, b.high - b.value)
    high = d + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(d, low, high)


def _large_enough(figures: Sequence[GroupFigure]) -> list[int]:
    return [g for g, figure in enumerate(figures) if figure.rows >= FEWEST_ROWS and figure.value is not None]


def _ends(figures: Sequence[GroupFigure], large: Sequence[int]) -> tuple[int, int]:
    """The groups with the highest and the lowest figure; of equal ones the larger, and never one of itself."""
    values = {g: value.value for g in large if (value := figures[g].value) is not None}
    high = max(large, key=lambda g: values[g])
    low = min((g for g in large if g != high), key=lambda g: values[g])
    return high, low


def _gap(high: str, low: str, apart: Interval, gaps: np.ndarray, as_far: int) -> Gap:
    """`gaps` are those of shuffled groups, of which `as_far` differ as much."""
    by_chance = float(np.quantile(gaps, CHANCE)) if len(gaps) else math.nan
    return Gap(high, low, apart, by_chance, (1 + as_far) / (1 + len(gaps)))


def _shuffled(values: np.ndarray, sizes: np.ndarray, key: int) -> tuple[np.ndarray, int]:
    """Of groups of these sizes, which stand one after the other in `values`, and whose rows are drawn anew from all of
    them: their gaps, float64 [shuffles]; and how many shuffles differ as much, by the sum of squares between groups."""
    starts = np.cumsum(sizes) - sizes
    middle = values.mean()

    def between(means: np.ndarray) -> np.ndarray:
        return np.asarray((sizes * (means - middle) ** 2).sum(-1))

    own = float(between(np.add.reduceat(values, starts) / sizes))
    gaps, as_far = [], 0
    for dice, rows in _chunks(len(values), key):
        shuffled = dice.permuted(np.broadcast_to(values, (rows, len(values))), axis=1)
        means = np.add.reduceat(shuffled, starts, axis=1) / sizes
        gaps.append(means.max(1) - means.min(1))
        as_far += int((between(means) >= own * (1 - 1e-9)).sum())
    return np.concatenate(gaps), as_far


def _chunks(n: int, key: int) -> Iterator[tuple[np.random.Generator, int]]:
    """Generators, each from a key of its own, and how many shuffles of n rows each makes."""
    at_once = max(1, min(_SHUFFLES, _CELLS_AT_ONCE // max(1, n)))
    for first in range(0, _SHUFFLES, at_once):
        yield np.random.default_rng(rng.key(key, first)), min(at_once, _SHUFFLES - first)
