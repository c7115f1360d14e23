"""The least epsilon that one run proves (arXiv 2305.08846), and how it stands beside what the accountant says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from onetrunk.core.errors import UsageError
from onetrunk.evaluation.audit.one_run import CONFIDENCE, coin_flips, one_run_bound, p_value
from onetrunk.evaluation.audit.record import OneRun, Privacy
from onetrunk.evaluation.audit.sentences import private


def test_without_delta_it_is_the_binomial_test() -> None:
    """Right guesses are at most those of coins that show heads with e^eps / (1 + e^eps)."""
    for right, epsilon in ((60, 0.5), (95, 3.0), (50, 0.0)):
        heads = math.exp(epsilon) / (1 + math.exp(epsilon))
        expected = stats.binomtest(right, 100, heads, alternative="greater").pvalue
        assert p_value(100, 100, right, epsilon, 0.0) == pytest.approx(expected)


def test_where_all_guesses_are_right_it_has_a_closed_form() -> None:
    """Coins that show heads with probability q are all right with q^1000, which is the level at the bound."""
    planted = np.arange(1000) % 2 == 0
    found = one_run_bound(planted + np.linspace(0, 0.5, 1000), planted, 0.0)
    heads = (0.05 / 5) ** (1 / 1000)  # the level is shared among five shares of guesses
    assert (found.guesses, found.right) == (1000, 1000)
    assert found.epsilon == pytest.approx(math.log(heads / (1 - heads)), rel=1e-6)


def test_delta_makes_it_smaller_and_it_never_holds_more_than_was_shown() -> None:
    planted = coin_flips(400)
    scores = planted + 0.3 * np.random.default_rng(0).normal(size=400)
    bounds = [one_run_bound(scores, planted, delta).epsilon for delta in (0.0, 1e-5, 1e-2)]
    assert bounds[0] > bounds[1] > bounds[2]
    assert bounds[0] > 1.0


def test_guesses_of_a_private_answer_stay_below_its_epsilon() -> None:
    """Each canary's coin told by randomised response at epsilon 1: the bound is kept in 19 of 20 tries and more."""
    epsilon, tries = 1.0, 100
    heads = math.exp(epsilon) / (1 + math.exp(epsilon))
    dice = np.random.default_rng(1)
    bounds = []
    for seed in range(tries):
        planted = coin_flips(2000, seed)
        told = np.where(dice.random(2000) < heads, planted, ~planted)
        bounds.append(one_run_bound(told + 1e-6 * dice.random(2000), planted, 0.0).epsilon)
    assert np.mean(np.array(bounds) <= epsilon) >= CONFIDENCE
    assert np.mean(bounds) > 0.7 * epsilon, "and is not far below"


def test_nothing_is_shown_by_chance_and_too_few_are_refused() -> None:
    planted = coin_flips(300, seed=4)
    assert one_run_bound(np.random.default_rng(2).normal(size=300), planted, 1e-5).epsilon == 0.0
    assert abs(planted.mean() - 0.5) < 0.1 and not np.array_equal(planted, coin_flips(300, seed=5))
    for some in (np.ones(300, dtype=bool), planted[:9]):
        with pytest.raises(UsageError, match="expects 10 canaries or more"):
            one_run_bound(np.zeros(len(some)), some, 1e-5)


def test_it_is_said_beside_what_the_accountant_says() -> None:
    shown = OneRun(1.25, 400, 200, 180, 1e-5, 0.95)
    promise = {"epsilon": 3.0, "delta": 1e-5}
    [sentence] = private(Privacy(one_run=shown, promise=promise))
    assert "ε is above 1.25" in sentence and "at most 3.00" in sentence and "which it keeps" in sentence
    [sentence] = private(Privacy(one_run=OneRun(4.0, 400, 200, 199, 1e-5, 0.95), promise=promise))
    assert "WHICH IT BREAKS" in sentence
    [sentence] = private(Privacy(one_run=shown))
    assert "no ε was promised" in sentence
    [sentence] = private(Privacy(promise=promise))
    assert "it was not tested" in sentence
