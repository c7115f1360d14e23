"""Conformal sets and intervals: they hold what they promise, at any coverage, on every path."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds

import onetrunk
from onetrunk.core.answer import Sampling
from onetrunk.core.calibration import MAX_SCORES, Calibration, kept_scores
from onetrunk.core.errors import UsageError
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.training.calibrate import calibrate

KINDS = {"size": "number", "label": "category", "rating": "category", "price": "number"}


def table(rows: int, seed: int) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=rows)
    label = ["abc"[int(np.digitize(x, [-0.6, 0.6]))] for x in size + 0.8 * rng.normal(size=rows)]
    rating = [int(np.clip(np.round(2 * x) + 3, 1, 5)) for x in size + 0.5 * rng.normal(size=rows)]
    return {"size": size.tolist(), "label": label, "rating": rating, "price": (size + rng.normal(size=rows)).tolist()}


@pytest.fixture(scope="module")
def model() -> Model:
    """Calibrated on 900 rows, whatever it knows."""
    made = worlds.model(table(300, 0), KINDS, options={"rating": {"ordered": True}})
    asked = ["label", "rating", "price"]
    made.tasks = [Task(["size"], asked)]
    calibrate(made, made.tasks[0], Table(table(900, 1)), 100)
    return made


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("asked", ["label", "rating", "price"])
def test_new_rows_are_covered_as_promised(model: Model, asked: str, coverage: float) -> None:
    rows = table(3000, 2)
    answers = model.answer(rows, asked, ["size"], Sampling(coverage=coverage))
    if asked == "price":
        held = [a.interval[0] <= t <= a.interval[1] for a, t in zip(answers, rows[asked], strict=True)]
    else:
        held = [t in a.conformal_set for a, t in zip(answers, rows[asked], strict=True)]
    assert all(a.coverage == coverage for a in answers)
    # the spread of the calibration rows' rank, and of the judged rows
    error = math.sqrt(coverage * (1 - coverage) * (1 / 900 + 1 / 3000))
    assert np.mean(held) == pytest.approx(coverage, abs=4 * error + 1 / 900)
    evaluation = model.evaluation(asked)
    assert evaluation.measure(answers, rows[asked])["coverage"] == pytest.approx(np.mean(held))
    if asked == "rating":
        assert all(a.conformal_set == list(range(min(a.conformal_set), max(a.conformal_set) + 1)) for a in answers
                   if a.conformal_set)  # fmt: skip


def test_answers_of_several_coverages_can_be_made_together(model: Model) -> None:
    from onetrunk.inference.session import Session

    rows = table(6, 3)
    session = Session(model.network, slots=8, positions=64)
    wide = [Sampling(coverage=c) for c in (0.6, 0.95)]
    numbers = [session.add(model.request({"size": rows["size"]}, "price", ["size"], each)) for each in wide]
    parts = {n: [] for n in numbers}
    while session.busy:
        for part in session.step():
            parts[part.request].append((part.row, part.answer.interval))
    for number, each in zip(numbers, wide, strict=True):
        alone = [a.interval for a in model.answer(rows, "price", ["size"], each)]
        np.testing.assert_allclose([ends for _, ends in sorted(parts[number])], alone, rtol=1e-4)


def test_thresholds_are_the_ranks_of_split_conformal_prediction() -> None:
    scores = np.random.default_rng(0).random(57)
    made = Calibration(57, "", scores=kept_scores(scores))
    for coverage in (0.1, 0.5, 0.9, 56 / 58, 57 / 58):
        assert made.threshold(coverage) == pytest.approx(np.sort(scores)[math.ceil(58 * coverage - 1e-9) - 1])
    assert made.threshold(0.99) is None and Calibration(57, "").threshold(0.5) is None
    many = np.random.default_rng(1).random(20_000)
    thinned = Calibration(20_000, "", scores=kept_scores(many))
    assert len(thinned.scores) == MAX_SCORES
    for coverage in (0.1, 0.9, 0.995):
        share = np.mean(many <= thinned.threshold(coverage) + 1e-12)
        assert coverage <= share + 1e-12 <= coverage + 1.5 / MAX_SCORES
    assert Calibration.parse(thinned.as_json()) == thinned
    for wrong in ([0.5, 0.1] + [1.0] * 55, [0.5], ["a"] * 57):
        with pytest.raises(TypeError, match="scores"):
            Calibration.parse({**made.as_json(), "scores": wrong})


def test_scores_of_distributions_weigh_as_their_shares() -> None:
    scores, shares = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]), np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    assert kept_scores(scores, shares) == pytest.approx([0.1, 0.3, 0.8])


def test_few_rows_promise_no_more_than_they_can(model: Model) -> None:
    answers = model.answer({"size": [0.0]}, "label", ["size"], Sampling(coverage=0.9999))
    assert answers[0].conformal_set == ["a", "b", "c"], "901 rows can promise no such coverage: all of them"
    (number,) = model.answer({"size": [0.0]}, "price", ["size"], Sampling(coverage=0.9999))
    assert number.interval[0] < number.value < number.interval[1]
    for wrong in (0.0, 1.0, 90, float("nan")):
        with pytest.raises(UsageError, match="coverage"):
            Sampling(coverage=wrong)


def test_predict_writes_sets_where_a_coverage_is_given(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    rows = {"size": table(5, 4)["size"]}
    plain = onetrunk.predict(str(tmp_path / "m"), rows, quiet=True)
    assert "label_set" not in plain and {"price_low", "price_high"} <= set(plain)
    sets = onetrunk.predict(str(tmp_path / "m"), rows, coverage=0.8, quiet=True, out=str(tmp_path / "a.jsonl"))
    narrow = (sets["price_high"] - sets["price_low"]) / (plain["price_high"] - plain["price_low"])
    assert (narrow < 0.9).all() and all(set(x) <= set("abc") for x in sets["label_set"])
    again = load(tmp_path / "m").predict(rows, coverage=0.8)
    assert again["label_set"].tolist() == sets["label_set"].tolist()
    assert again["rating_set"].tolist() == onetrunk.read(str(tmp_path / "a.jsonl"))["rating_set"]
