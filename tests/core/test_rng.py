"""Keyed randomness: distributions against SciPy, and nothing depends on what is drawn beside it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from onetrunk.core import rng

KEYS = rng.mix(rng.key(0, "test"), np.arange(200))


@pytest.mark.parametrize(("draw", "distribution"), [(rng.uniform, "uniform"), (rng.normal, "norm")])
def test_distributions(draw, distribution: str) -> None:
    assert stats.kstest(draw(KEYS, 50).ravel(), distribution).pvalue > 0.01


def test_neighbouring_keys_and_counters_are_uncorrelated() -> None:
    u = rng.uniform(KEYS, 50)
    assert abs(np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(u[:, :-1].ravel(), u[:, 1:].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("draw", [rng.uniform, rng.normal])
def test_a_rows_numbers_do_not_depend_on_the_others(draw) -> None:
    whole = draw(KEYS, 3, 4)
    assert (draw(KEYS[[7, 3]], 3, 4) == whole[[7, 3]]).all()


def test_integers_stay_below_their_limit_and_reach_it() -> None:
    limits = np.tile([1, 2, 5], 100)
    drawn = rng.integers(rng.mix(1, np.arange(300)), limits)
    assert (drawn < limits).all()
    assert set(drawn[limits == 5]) == {0, 1, 2, 3, 4}


def test_permutations_hold_everything_once_and_differ_by_key() -> None:
    one, other = rng.permutation(1, 100), rng.permutation(2, 100)
    assert sorted(one) == list(range(100))
    assert (one != other).any()


def test_keys_tell_their_parts_apart() -> None:
    keys = {rng.key(a, b) for a in range(50) for b in ("x", "y")}
    assert len(keys) == 100
    assert rng.key(1, 2) != rng.key(2, 1)
