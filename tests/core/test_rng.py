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


def test_some_are_those_that_the_permutation_has_first(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rng.permutation(1, 1000)
    monkeypatch.setattr("onetrunk.core.spans._AT_ONCE", 64)
    assert (rng.permutation(1, 1000) == whole).all()
    for most in (0, 1, 63, 500, 1000, 2000):
        assert rng.some_of(1, 1000, most).tolist() == sorted(whole[:most].tolist())


def test_keys_tell_their_parts_apart() -> None:
    keys = {rng.key(a, b) for a in range(50) for b in ("x", "y")}
    assert len(keys) == 100
    assert rng.key(1, 2) != rng.key(2, 1)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000, 4096, 4097])
def test_permuted_is_a_permutation_that_its_key_decides(n: int) -> None:
    whole = rng.permuted(rng.key(3), np.arange(n), n)
    assert sorted(whole.tolist()) == list(range(n))
    some = np.array([n - 1, 0, n // 2])
    assert rng.permuted(rng.key(3), some, n).tolist() == whole[some].tolist()
    if n >= 16:
        assert rng.permuted(rng.key(4), np.arange(n), n).tolist() != whole.tolist()


def test_permuted_needs_no_list_and_goes_everywhere() -> None:
    n = 10**15
    far = rng.permuted(rng.key(1), np.arange(2000), n)
    assert len(set(far.tolist())) == 2000 and far.min() >= 0 and far.max() < n
    # As of uniform numbers: of ten equal parts each has about 200, neighbours are not neighbours.
    counts = np.bincount((far // (n // 10)).clip(0, 9), minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = .001
    assert np.median(np.abs(np.diff(far))) > n / 5


def test_permuted_puts_every_number_everywhere() -> None:
    n, keys = 6, 3000
    places = np.stack([rng.permuted(rng.key(9, k), np.arange(n), n) for k in range(keys)])
    counts = np.stack([np.bincount(places[:, i], minlength=n) for i in range(n)])
    assert ((counts - keys / n) ** 2 / (keys / n)).sum() < 52.6  # 25 degrees of freedom, p = .001
