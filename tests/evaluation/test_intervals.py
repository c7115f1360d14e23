"""Against SciPy's bootstrap and exact tests, and against what an interval promises: to cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from onetrunk.evaluation import intervals
from onetrunk.evaluation.intervals import Interval, bootstrap, interval, metric_draws, wilson

VALUES = np.random.default_rng(0).gamma(2.0, size=300)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_bootstrap_agrees_with_scipy(statistic) -> None:
    ours = bootstrap(VALUES, statistic, n=4000)
    theirs = stats.bootstrap(
        (VALUES,), statistic, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(statistic(VALUES))
    assert ours.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.06 * width)


def test_the_level_widens_it() -> None:
    assert bootstrap(VALUES, level=0.99).low < bootstrap(VALUES, level=0.8).low


@pytest.mark.parametrize("successes,n", [(0, 20), (3, 20), (199, 200), (360, 360)])
def test_wilson_is_scipys(successes: int, n: int) -> None:
    bounds, expected = wilson(successes, n), stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert (bounds.low, bounds.high) == pytest.approx((expected.low, expected.high))


def test_it_covers_as_often_as_it_says() -> None:
    """200 samples of a known mean: its 90 % interval holds it about 180 times (± 12)."""
    samples = np.random.default_rng(2).normal(5.0, 2.0, (200, 100))
    held = sum(not bootstrap(sample, n=300, level=0.9).excludes(5.0) for sample in samples)
    assert 165 <= held <= 193


def test_seeded_and_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    once = bootstrap(VALUES, n=100, seed=3)
    assert bootstrap(VALUES, n=100, seed=3) == once != bootstrap(VALUES, n=100, seed=4)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 7 * len(VALUES))
    assert bootstrap(VALUES, n=100, seed=3) == once


def resampled(fn: Any, rows: int, n: int = 200, seed: int = 0) -> Interval | None:
    """The interval of any metric of row indices."""
    return interval(fn(np.arange(rows)) if rows else None, metric_draws(fn, rows, n, seed))


def test_any_metric_and_its_undefined_resamples() -> None:
    y = np.arange(12) % 4 == 0
    score = y + np.random.default_rng(0).normal(size=12)

    def auc(index: np.ndarray) -> float | None:
        return roc_auc_score(y[index], score[index]) if 0 < y[index].sum() < len(index) else None

    result = resampled(auc, 12, n=300)
    assert result.low <= result.value <= result.high and result.value == roc_auc_score(y, score)
    assert resampled(lambda index: None, 12) is None
    # Defined on all rows, but in few resamples: no interval rather than one of the lucky ones.
    assert resampled(lambda index: 1.0 if len(set(index)) >= 9 else None, 12) is None
    assert resampled(auc, 0) is None


def test_a_metric_that_is_a_mean_gets_the_same_interval_either_way() -> None:
    by_row = bootstrap(VALUES, n=200, seed=1)
    assert resampled(lambda index: VALUES[index].mean(), len(VALUES), n=200, seed=1) == by_row


def test_pairing_uses_that_the_rows_are_the_same() -> None:
    hard = np.random.default_rng(3).normal(0, 10, 400)  # what both models share
    a = hard + 1.0 + np.random.default_rng(4).normal(0, 1, 400)
    result = bootstrap(a - hard)
    assert result.value == pytest.approx((a - hard).mean()) and result.excludes(0)
    assert not bootstrap(a - hard[::-1]).excludes(0)
    half = stats.t.interval(0.95, 399, (a - hard).mean(), stats.sem(a - hard))
    assert (result.low, result.high) == pytest.approx(half, abs=0.03)
