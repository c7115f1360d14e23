"""Two ways to make groups more alike, each with its cost: thresholds of their own, and weights in training.

Thresholds: Hardt et al. 2016 (arXiv 1610.02413), without its lotteries. Weights: Kamiran and Calders 2012. Both treat
people of different groups differently on purpose; whether that is allowed, and wanted, is not for a program to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onetrunk.core import rng
from onetrunk.evaluation import intervals
from onetrunk.evaluation.audit.fairness import FEWEST_ROWS, compare_means, rate_rows
from onetrunk.evaluation.audit.groups import Groups
from onetrunk.evaluation.audit.record import Mitigation
from onetrunk.evaluation.intervals import wilson

EQUAL = ("selection_rate", "true_positive_rate", "false_positive_rate")  # what thresholds can make equal
_USUAL = 0.5


def halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to measure on."""
    order = rng.permutation(rng.key(seed, "mitigation"), n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def fit_thresholds(rate: str, p: np.ndarray, is_true: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """For each of `count` groups the least probability at which the class is answered, so that its `rate` is the rate
    that all rows together have at one half; float64 [count]. Groups without enough rows keep one half."""
    among = _among(rate, is_true)
    wanted = float((p[among] >= _USUAL).mean()) if among.any() else 0.0
    out = np.full(count, _USUAL)
    for g in range(count):
        own = np.sort(p[among & (groups == g)])[::-1]
        if len(own) < FEWEST_ROWS // 2:
            continue
        k = round(wanted * len(own))  # how many shall be answered so
        edge = own[k - 1] if k else np.inf
        below = own[k] if k < len(own) else -np.inf
        out[g] = _between(below, edge)
    return out


def _between(below: float, edge: float) -> float:
    """A threshold that lets `edge` in and, unless they are equal, keeps `below` out."""
    if not np.isfinite(edge):
        return float(np.nextafter(below, np.inf))
    return float(edge) if not np.isfinite(below) else float((edge + below) / 2 if edge > below else edge)


def _among(rate: str, is_true: np.ndarray) -> np.ndarray:
    return {"selection_rate": np.ones_like(is_true), "true_positive_rate": is_true}.get(rate, ~is_true)


def by_thresholds(
    rate: str, p: np.ndarray, true: np.ndarray, classes: Sequence[str], groups: Groups, seed: int
) -> Mitigation | None:
    """Thresholds of the second of two classes for each group, learnt on half of the rows, and what they do to the other
    half. `p` float64 [n] is its probability, `true` [n] are names. None where there are too few rows."""
    learn, test = halves(len(p), seed)
    other, of = classes
    thresholds = fit_thresholds(rate, p[learn], true[learn] == of, groups.of[learn], len(groups.names))
    known = groups.of[test] >= 0
    test = test[known]
    own = thresholds[groups.of[test]]
    before = np.where(p[test] >= _USUAL, of, other)
    after = np.where(p[test] >= own, of, other)
    return compared(
        "a threshold of its own for each group", rate, of, true[test], before, after, groups.take(test), len(learn),
        {name: float(thresholds[g]) for g, name in enumerate(groups.names)}, seed,
    )  # fmt: skip


def compared(
    how: str,
    rate: str,
    of: str,
    true: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    groups: Groups,
    fitted_on: int,
    settings: dict[str, float],
    seed: int,
    judged: str = "",
) -> Mitigation | None:
    """The gap of a rate and the accuracy, with answers `before` and `after`, on the same rows."""
    gaps = []
    for answered in (before, after):
        hit, among = rate_rows(rate, true, answered, of)
        metric = compare_means(rate, of, hit.astype(np.float64), among, groups, seed)
        if metric.gap is None:
            return None
        gaps.append(metric.gap.value)
    right_before, right_after = (answers == true for answers in (before, after))
    change = right_after.astype(np.float64) - right_before
    return Mitigation(
        how=how,
        equal=rate,
        of=of,
        fitted_on=fitted_on,
        rows=len(true),
        gap_before=gaps[0],
        gap_after=gaps[1],
        accuracy_before=wilson(float(right_before.sum()), len(true)),
        accuracy_change=intervals.bootstrap(change, seed=seed),
        settings=settings,
        judged=judged,
    )


# -- weights -------------------------------------------------------------------------------------------------
def balancing_weights(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A weight for each row with which groups and labels are independent, P(group) P(label) / P(group, label): float64
    [n], 1 for rows without a group (-1). Train with them as `row_weight`."""
    out = np.ones(len(groups))
    known = np.flatnonzero(groups >= 0)
    _, label = np.unique(labels[known], return_inverse=True)
    group = groups[known]
    table = np.zeros((group.max(initial=-1) + 1, label.max(initial=-1) + 1))
    np.add.at(table, (group, label), 1)
    expected = np.outer(table.sum(1), table.sum(0)) / max(1.0, table.sum())
    out[known] = expected[group, label] / table[group, label]
    return out


Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""Rows, labels and weights to learn from, to what answers rows."""


def by_weights(
    rate: str, fit: Fit, true: np.ndarray, classes: Sequence[str], groups: Groups, seed: int, judged: str
) -> Mitigation | None:
    """What balancing weights do to a simple model that learns from half of the rows. None where there are too few."""
    learn, test = halves(len(true), seed)
    if len(np.unique(true[learn])) < 2:
        return None
    weights = balancing_weights(groups.of[learn], true[learn])
    before = fit(learn, true[learn], np.ones(len(learn)))
    after = fit(learn, true[learn], weights)
    test = test[groups.of[test] >= 0]
    settings = {
        f"{name}, {label}": float(weights[rows][0])
        for g, name in enumerate(groups.names)
        for label in classes
        if (rows := (groups.of[learn] == g) & (true[learn] == label)).any()
    }
    return compared(
        "weights in training that make groups and classes independent", rate, classes[1], true[test], before(test),
        after(test), groups.take(test), len(learn), settings, seed, judged,
    )  # fmt: skip
