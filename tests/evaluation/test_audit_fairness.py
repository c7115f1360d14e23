"""Gaps between groups against closed forms: Newcombe's own example, the hypergeometric distribution, counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from onetrunk.core.errors import UsageError
from onetrunk.evaluation.audit.fairness import class_rates, compare_means, compare_metric, newcombe
from onetrunk.evaluation.audit.groups import Groups, group_rows
from onetrunk.evaluation.audit.mitigation import balancing_weights, by_thresholds, by_weights, fit_thresholds
from onetrunk.evaluation.intervals import wilson


def _groups(*sizes: int) -> Groups:
    names = [f"group {i}" for i in range(len(sizes))]
    return Groups("side", names, np.repeat(np.arange(len(sizes)), sizes), "one for each value")


def test_the_difference_of_two_shares_is_newcombes_own_example() -> None:
    apart = newcombe(wilson(56, 70), wilson(48, 80))
    assert (apart.value, apart.low, apart.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_rates_of_each_group_are_counts() -> None:
    true = np.array(["no"] * 40 + ["yes"] * 40 + ["no"] * 40 + ["yes"] * 40)
    answered = np.array(
        ["yes"] * 10 + ["no"] * 30 + ["yes"] * 20 + ["no"] * 20 + ["yes"] * 2 + ["no"] * 48 + ["yes"] * 30
    )
    rates = {rate.name: rate for rate in class_rates(true, answered, ["no", "yes"], _groups(80, 80), 0)}
    got = {name: [(f.rows, f.value.value) for f in rate.groups] for name, rate in rates.items()}
    assert got["selection_rate"] == [(80, 30 / 80), (80, 32 / 80)]
    assert got["true_positive_rate"] == [(40, 20 / 40), (40, 30 / 40)]
    assert got["false_positive_rate"] == [(40, 10 / 40), (40, 2 / 40)]
    assert got["precision"] == [(30, 20 / 30), (32, 30 / 32)]
    gap = rates["false_positive_rate"].gap
    assert (gap.high, gap.low) == ("group 0", "group 1")
    assert gap.value == newcombe(wilson(10, 40), wilson(2, 40))


def test_several_classes_have_rates_each() -> None:
    true = np.array(["a", "b", "c"] * 40)
    rates = class_rates(true, true, ["a", "b", "c"], _groups(60, 60), 0)
    assert {rate.of for rate in rates} == {"a", "b", "c"}
    assert all(f.value.value == 1 for rate in rates if rate.name == "precision" for f in rate.groups)


def test_what_chance_gives_is_the_hypergeometric_distribution() -> None:
    each = np.zeros(300)
    each[:60] = 1
    gap = compare_means("rate", "", each, np.ones(300, dtype=bool), _groups(100, 200)).gap
    k = np.arange(101)
    gaps, mass = np.abs(k / 100 - (60 - k) / 200), hypergeom(300, 60, 100).pmf(k)
    order = np.argsort(gaps)
    exact = gaps[order][np.searchsorted(np.cumsum(mass[order]), 0.99)]
    assert gap.by_chance == pytest.approx(exact, abs=0.016)
    assert gap.p < 0.01 and not gap.is_chance


def test_groups_that_are_alike_are_apart_by_chance_only() -> None:
    dice = np.random.default_rng(1)
    apart = [
        compare_means(
            "rate", "", (dice.random(400) < 0.3) * 1.0, np.ones(400, dtype=bool), _groups(100, 150, 150), seed
        )
        for seed in range(40)
    ]
    assert sum(not metric.gap.is_chance for metric in apart) <= 2  # .4 are expected
    assert np.mean([metric.gap.p for metric in apart]) == pytest.approx(0.5, abs=0.17)


def test_small_groups_are_shown_and_have_no_part_in_gaps() -> None:
    each = np.r_[np.zeros(50), np.ones(5), np.tile([0.0, 1.0], 25)]
    metric = compare_means("rate", "", each, np.ones(105, dtype=bool), _groups(50, 5, 50))
    assert metric.groups[1].value == wilson(5, 5)
    assert (metric.gap.high, metric.gap.low, metric.gap.value.value) == ("group 2", "group 0", 0.5)
    assert compare_means("rate", "", each, np.ones(105, dtype=bool), _groups(100, 5)).gap is None


def test_a_figure_that_is_no_mean_is_compared_too() -> None:
    dice = np.random.default_rng(0)
    error = np.r_[dice.normal(0, 1, 100), dice.normal(0, 3, 100)]
    metric = compare_metric("rmse", lambda rows: float(np.sqrt((error[rows] ** 2).mean())), _groups(100, 100))
    assert (metric.gap.high, metric.gap.low) == ("group 1", "group 0")
    assert metric.gap.value.low < 2 < metric.gap.value.high and metric.gap.p < 0.01


def test_a_small_group_hides_nothing() -> None:
    """Its own rate may be anything by chance; the large ones differ clearly."""
    each = np.r_[np.tile([1.0, 0.0], 500), np.tile([1.0, 0.0, 0.0], 300), np.tile([1.0, 0.0], 16)]
    gap = compare_means("rate", "", each, np.ones(len(each), dtype=bool), _groups(1000, 900, 32)).gap
    assert gap.value.value < gap.by_chance and gap.p <= 0.01 and not gap.is_chance


# -- groups ----------------------------------------------------------------------------------------------------------
def test_values_are_groups_the_largest_first() -> None:
    groups = group_rows("side", ["left", "right", None, "right"], "category")
    assert groups.names == ["right", "left"] and groups.of.tolist() == [1, 0, -1, 0]


def test_many_numbers_are_quarters() -> None:
    groups = group_rows("age", [None, *range(20, 60)], "number")
    assert len(groups.names) == 4 and groups.of[0] == -1
    assert sorted(np.bincount(groups.of[1:])) == [10, 10, 10, 10]
    assert groups.names == ["20 to 29", "30 to 39", "40 to 49", "50 to 59"]
    assert group_rows("children", [0, 1, 2] * 9, "number").names == ["0", "1", "2"]


def test_what_makes_no_groups_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 40 groups"):
        group_rows("name", [f"somebody {i}" for i in range(50)], "text")
    with pytest.raises(UsageError, match="No row has a value"):
        group_rows("name", [None, None], "category")


# -- mitigation ------------------------------------------------------------------------------------------------------
def _unequal(n: int = 4000) -> tuple[np.ndarray, np.ndarray, Groups]:
    """Probabilities that are too high in the first of two groups, and what is true."""
    dice = np.random.default_rng(3)
    side = dice.integers(0, 2, n)
    chance = dice.random(n)
    true = np.where(dice.random(n) < chance, "yes", "no")
    return np.clip(chance + 0.2 * (side == 0), 0, 1), true, Groups("side", ["up", "down"], side, "one for each value")


@pytest.mark.parametrize("rate", ["selection_rate", "true_positive_rate", "false_positive_rate"])
def test_thresholds_make_a_rate_equal(rate: str) -> None:
    p, true, groups = _unequal()
    thresholds = fit_thresholds(rate, p, true == "yes", groups.of, 2)
    among = {"selection_rate": true != "", "true_positive_rate": true == "yes"}.get(rate, true == "no")
    rates = [float((p[among & (groups.of == g)] >= thresholds[g]).mean()) for g in (0, 1)]
    assert rates[0] == pytest.approx(rates[1], abs=1e-3)
    assert rates[0] == pytest.approx(float((p[among] >= 0.5).mean()), abs=2e-3)
    found = by_thresholds(rate, p, true, ["no", "yes"], groups, 0)
    assert found.gap_before.excludes(0) and not found.gap_after.excludes(0)
    assert found.rows + found.fitted_on == len(p) and found.settings["up"] > found.settings["down"]
    again = np.where(p >= 0.5, "yes", "no") == true
    assert found.accuracy_before.value == pytest.approx(float(again.mean()), abs=0.02)


def test_weights_make_groups_and_labels_independent() -> None:
    dice = np.random.default_rng(0)
    groups = dice.integers(-1, 3, 500)
    labels = np.where(dice.random(500) < np.array([0.5, 0.2, 0.8, 0.5])[groups], "yes", "no")
    weights = balancing_weights(groups, labels)
    assert (weights[groups < 0] == 1).all()
    known = groups >= 0
    share = [float(weights[(groups == g) & (labels == "yes")].sum() / weights[groups == g].sum()) for g in range(3)]
    assert share == pytest.approx([float((labels[known] == "yes").mean())] * 3)
    assert [weights[groups == g].sum() for g in range(3)] == pytest.approx(np.bincount(groups[known]))


def test_weights_change_what_a_simple_model_answers() -> None:
    """One that answers the heavier label of each group: without weights it follows the group, with them it does not."""
    dice = np.random.default_rng(0)
    side = dice.integers(0, 2, 2000)
    true = np.where(dice.random(2000) < np.where(side == 0, 0.3, 0.65), "yes", "no")

    def fit(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray):
        heavier = [
            max(("no", "yes"), key=lambda label, g=g: weights[(side[rows] == g) & (labels == label)].sum())
            for g in (0, 1)
        ]
        return lambda others: np.array(heavier)[side[others]]

    found = by_weights(
        "selection_rate", fit, true, ["no", "yes"], Groups("side", ["up", "down"], side, ""), 0, "the heavier label"
    )
    assert (found.gap_before.value, found.gap_after.value) == (1.0, 0.0)
    assert found.accuracy_change.value < 0 and found.judged == "the heavier label"
