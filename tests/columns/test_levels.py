"""Levels in order: their order, the read-out against closed forms, metrics against scikit-learn's."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from scipy import optimize, special
from sklearn.metrics import cohen_kappa_score

from onetrunk.columns.category.levels import fit_levels
from onetrunk.core.answer import Answer
from onetrunk.core.calibration import class_scores
from onetrunk.core.errors import DataError, UsageError
from onetrunk.data.conventions import with_notation
from onetrunk.inference.likelihood import reads_of
from onetrunk.inference.wide_outputs import add_wide
from onetrunk.metrics.ordinal import ordinal
from onetrunk.nn.heads.ordinal import CumulativeLogits, log_levels, median_level
from onetrunk.training.wide import fit_wide, wide_rows

Category = partial(worlds.Sides, "category")


@pytest.mark.parametrize(
    ("values", "order"),
    [
        ([10, 2, 1, 2], ["1", "2", "10"]),
        (["10 stars", "2 stars", "1 star"], ["1 star", "2 stars", "10 stars"]),
        (["age 60-", "age 18", "age 40"], ["age 18", "age 40", "age 60-"]),
        (["high", "Low", "medium"], ["Low", "medium", "high"]),
        (["always", "never", "sometimes"], ["never", "sometimes", "always"]),
        (["Strongly agree", "neutral", "disagree"], ["disagree", "neutral", "Strongly agree"]),
        (["高", "低", "中"], ["低", "中", "高"]),
        ([True, False], ["False", "True"]),
    ],
)
def test_the_order_is_that_of_numbers_and_of_known_scales(values: list[Any], order: list[str]) -> None:
    sides = Category({"ordered": True})
    sides.fit(values)
    assert sides.classes == order


def test_an_order_that_nothing_tells_is_asked_for_and_can_be_given() -> None:
    with pytest.raises(DataError, match=r"nothing tells the order.*category:blue<\.\.\.<red"):
        Category({"ordered": True}).fit(["red", "blue", "green"])
    assert with_notation("category:red < blue<green") == ("category", {"levels": ["red", "blue", "green"]})
    assert with_notation("category:ordered") == ("category", {"ordered": True})
    sides = Category({"levels": ["red", "blue", "green"]})
    sides.fit(["green", "red"])
    assert sides.classes == ["red", "blue", "green"] and sides.counts == [1, 0, 1]
    with pytest.raises(DataError, match="pink, which is not among the levels given: red, blue, green"):
        sides.fit(["pink", "red"])
    with pytest.raises(UsageError, match="all differ"):
        Category({"levels": ["red", "red"]})
    with pytest.raises(DataError, match="one a row"):
        Category({"ordered": True}).fit([["1"], ["1", "2"]])
    assert sides.extend(["black"]) == 0 and sides.classes == ["red", "blue", "green"]


def test_probabilities_are_differences_of_sigmoids_and_exact_far_out() -> None:
    cuts = torch.tensor([-2.0, 0.5, 0.6, 3.0], dtype=torch.float64)
    score = torch.linspace(-40, 40, 81, dtype=torch.float64)
    ours = log_levels(score, cuts)
    reached = special.expit(cuts.numpy()[None] - score.numpy()[:, None])
    near = np.abs(score.numpy()) < 10
    theirs = np.diff(np.concatenate([np.zeros((81, 1)), reached, np.ones((81, 1))], axis=1), axis=1)
    np.testing.assert_allclose(ours.exp().numpy()[near], theirs[near], rtol=1e-6)
    torch.testing.assert_close(ours.exp().sum(1), torch.ones(81, dtype=torch.float64))
    assert torch.isfinite(ours).all()
    head = CumulativeLogits(cuts.numpy())
    np.testing.assert_allclose(head.cuts.detach().numpy(), cuts.numpy(), rtol=1e-5)
    below = np.cumsum(theirs[near], axis=1)
    assert (median_level(ours[near]).numpy() == (below < 0.5).sum(1)).all()


def test_slope_and_cuts_are_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, 800)
    y = (rng.logistic(size=800) + 1.5 * x > np.array([[1.0], [4.0], [7.5]])).sum(0)

    def nats(values: np.ndarray) -> float:
        reached = special.expit(np.sort(values[1:])[None] - values[0] * x[:, None])
        p = np.diff(np.concatenate([np.zeros((800, 1)), reached, np.ones((800, 1))], axis=1), axis=1)
        return float(-np.log(np.maximum(p[np.arange(800), y], 1e-300)).sum() + (values[0] * x.std()) ** 2 / 2)

    theirs = optimize.minimize(nats, [1.0, 1, 3, 6], method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-7}).x
    slope, cuts = fit_levels(x, y.astype(float), 4)
    np.testing.assert_allclose([slope, *cuts], [theirs[0], *np.sort(theirs[1:])], rtol=2e-3)
    assert slope == pytest.approx(1.5, rel=0.15)
    halfway, _ = fit_levels(x, y + 0.5 * (y < 3), 4)  # levels between two are partly each
    assert halfway > 0


def test_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    levels = [str(i) for i in range(5)]
    true, answered = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    answered = np.where(rng.random(300) < 0.6, true, answered)
    found = ordinal([str(t) for t in true], [str(a) for a in answered], levels)
    assert found["quadratic_kappa"] == pytest.approx(cohen_kappa_score(true, answered, weights="quadratic"))
    assert found["level_error"] == pytest.approx(np.abs(true - answered).mean())
    assert ordinal(["1", "9"], ["1", "2"], levels) == {"level_error": 2.0, "quadratic_kappa": None}
    assert ordinal([], [], levels)["level_error"] is None


def test_the_answer_is_the_level_in_the_middle_also_of_baselines() -> None:
    sides = Category({"ordered": True})
    sides.fit([1, 2, 3])

    class Estimator:
        classes_ = np.array(["1", "2", "3"])

        def predict_proba(self, x: Any) -> np.ndarray:
            return np.array([[0.4, 0.25, 0.35]])

    (answer,) = sides.answers_from(Estimator(), None)
    assert answer.value == 2 and answer.certainty == 0.25
    measured = sides.measure([answer, Answer(3, {"1": 0.0, "2": 0.0, "3": 1.0})], [1, 3])
    assert measured["level_error"] == 0.5 and measured["accuracy"] == 0.5


def test_conformal_sets_of_levels_have_no_gaps() -> None:
    p = np.array([[0.4, 0.05, 0.35, 0.2], [0.1, 0.7, 0.1, 0.1]])
    scores = class_scores(p, ordered=True)
    np.testing.assert_allclose(scores, 1 - np.array([[0.4, 0.35, 0.35, 0.2], [0.1, 0.7, 0.1, 0.1]]))
    np.testing.assert_allclose(class_scores(p), 1 - p)
    for threshold in np.unique(scores):
        for row in scores <= threshold:
            inside = np.flatnonzero(row)
            assert len(inside) == 0 or inside[-1] - inside[0] + 1 == len(inside)


def _beside_wide(rows: int = 200) -> tuple[Any, Any, dict[str, list[Any]]]:
    """A model of levels beside a wide read-out of one number, and its encoded rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    level = (x + 0.5 * rng.logistic(size=rows) > np.array([[-1.0], [0.0], [1.5]])).sum(0)
    table = {"x": x.tolist(), "level": [["low", "medium", "high", "critical"][k] for k in level]}
    order = {"level": {"levels": ["low", "medium", "high", "critical"]}}
    made = worlds.model(table, {"x": "number", "level": "category"}, options=order, awake=False)
    store = worlds.store_of(made, table)
    fitted = fit_wide(wide_rows(store, ["x"], "level", np.arange(rows)))
    assert fitted is not None and fitted.residuals is not None and fitted.readout.shape.outputs == 1
    made.encoder("level").expect_around(fitted.held_out[:, 0].astype(float), fitted.residuals)
    made.network.add_wide("level", fitted.readout)
    add_wide(made.network, store, ["x"], "level")
    return made.network, store, table


@torch.no_grad()
def test_beside_a_wide_read_out_levels_are_as_likely_as_its_number_says() -> None:
    network, store, table = _beside_wide()
    network.eval()
    h, targets = reads_of(network, store, ["x"], "level")
    module = network.module("level")
    nats = float(module.loss(h, targets).sum) / len(h)
    frequencies = np.bincount([["low", "medium", "high", "critical"].index(v) for v in table["level"]]) / len(h)
    assert nats < 0.8 * -(frequencies * np.log(frequencies)).sum(), "better than without what is given"
    slope, cuts = fit_levels(h[:, -1].double().numpy(), targets["id"].double().numpy(), 4)
    best = log_levels(slope * h[:, -1].double(), torch.from_numpy(cuts)).gather(1, targets["id"][:, None])
    assert nats == pytest.approx(-float(best.mean()), abs=0.03), "nearly as well as if it were fitted on these rows"


@torch.no_grad()
def test_what_trunk_and_wide_read_out_say_is_weighed_with_the_cuts() -> None:
    network, store, _ = _beside_wide()
    worlds.wake(network.module("level"))
    network.eval()
    module = network.module("level")
    h, targets = reads_of(network, store, ["x"], "level")
    own, wide = module._scores(h)
    before = float(module.loss(h, targets).sum)
    ids = targets["id"].numpy()

    def mean_nats(values: np.ndarray) -> float:
        score = values[0] * own.double().numpy() + values[1] * wide.double().numpy()
        reached = special.expit(np.sort(values[2:])[None] - score[:, None])
        p = np.diff(np.concatenate([np.zeros((len(ids), 1)), reached, np.ones((len(ids), 1))], axis=1), axis=1)
        unusual = 3.0 * ((values[:2] - 0.5) ** 2).sum() / len(ids)
        return float(-np.log(np.maximum(p[np.arange(len(ids)), ids], 1e-300)).mean() + unusual)

    begin = [0.5, 0.5, *module.levels.cuts.tolist()]
    bounds = [(0, 2), (0, 2), *[(None, None)] * 3]
    theirs = optimize.minimize(mean_nats, begin, method="Nelder-Mead", bounds=bounds,
                               options={"maxiter": 6000, "xatol": 1e-7, "fatol": 1e-10})  # fmt: skip
    share = module.mix(h, targets)
    h_after = torch.cat([h[:, :-1], share * h[:, -1:]], dim=1)
    after = float(module.loss(h_after, targets).sum)
    own_after, wide_after = module._scores(h_after)
    ours = np.array([0.0, 0.0, *module.levels.cuts.tolist()])
    ours[:2] = [float((own_after / own).median()), share]
    assert mean_nats(ours) == pytest.approx(theirs.fun, abs=2e-4) and after < before
    torch.testing.assert_close(wide_after, share * wide)
