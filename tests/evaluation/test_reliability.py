"""What certainty is worth, leaks, and the curve of labels: against cases whose answers are known."""

from __future__ import annotations

import html

import numpy as np
import pytest
from evidence_fakes import Amount, Colour, FakeModel

from onetrunk.columns.number.encoder import NumberEncoder
from onetrunk.core.answer import Answer
from onetrunk.evaluation.certainty import reliability, sureness
from onetrunk.evaluation.gather import gather_evidence
from onetrunk.evaluation.record import TaskEvidence
from onetrunk.evaluation.report import report
from onetrunk.evaluation.words import abstained, leaked, more_labels
from onetrunk.metrics.classification import ece


def test_bins_add_up_to_the_calibration_error_of_a_bin() -> None:
    dice = np.random.default_rng(0)
    confidence = dice.uniform(0.5, 1, 400)
    right = (dice.random(400) < confidence - 0.2).astype(float)
    bins = reliability(confidence, right)
    assert sum(each["rows"] for each in bins) == 400 and len(bins) == 10
    assert [each["confidence"] for each in bins] == sorted(each["confidence"] for each in bins)
    error = sum(each["rows"] * abs(each["confidence"] - each["right"]) for each in bins) / 400
    assert error == pytest.approx(0.2, abs=0.03) and error == pytest.approx(ece(confidence, right), abs=0.03)
    assert all(each["low"] <= each["right"] <= each["high"] for each in bins)
    assert len(reliability(confidence[:25], right[:25])) == 1


def test_numbers_are_as_sure_as_their_intervals_are_narrow() -> None:
    answers = [Answer(1.0, interval=(0.0, 2.0)), Answer(1.0, interval=(0.5, 1.0))]
    assert sureness(Colour([]), answers) is None, "it has no line"  # type: ignore[arg-type]
    sure = sureness(Colour([]), [Answer("a", {"a": 0.8, "b": 0.2}), Answer("b", {"b": 0.7, "a": 0.3})])  # type: ignore[arg-type]
    assert sure is not None and sure.tolist() == [0.8, 0.7]
    wide = [Answer(1.0, interval=(0.0, 2.0)), Answer(1.0, interval=(0.5, 1.0)), Answer(1.0)]
    assert sureness(NumberEncoder(), wide) is None, "one of them does not say"
    assert sureness(NumberEncoder(), wide[:2]).tolist() == [-2.0, -0.5]  # type: ignore[union-attr]


def _task(language: str = "en") -> tuple[TaskEvidence, str]:
    """The surer half is always right, the other half of it half of the time; `tell` is the label in other words, and a
    third of the rows stand among the training rows."""
    hue = ["blue", "green"] * 60
    sure = [i % 40 < 20 for i in range(120)]
    label = [name if is_sure or i % 4 < 2 else "red" for i, (name, is_sure) in enumerate(zip(hue, sure, strict=True))]
    sides = {name: Colour(["blue", "green", "red"]) for name in ("hue", "sure", "tell", "label")} | {"size": Amount()}

    def say(hue: str, sure: str, *rest: object) -> Answer:
        most = 0.9 if sure == "True" else 0.4
        return Answer(hue, {name: most if name == hue else (1 - most) / 2 for name in ("blue", "green", "red")})

    test = {"hue": hue, "sure": [str(s) for s in sure], "tell": [f"t{name}" for name in label], "size": [*range(120)]}
    train = {name: values[:40] for name, values in test.items()} | {"label": label[:40]}
    evidence = gather_evidence(
        FakeModel(sides, say), test | {"label": label}, [(["hue", "sure", "tell", "size"], "label")], train=train,
        language=language, with_labels_curve=True,
    )  # fmt: skip
    return evidence.tasks[0], report(evidence)


def test_evidence_says_what_the_surest_answers_are_worth_what_leaks_and_whether_labels_help() -> None:
    task, page = _task()
    by_share = {each["share"]: each for each in task.abstention}
    assert by_share[1.0]["value"] == task.metrics["accuracy"] == pytest.approx(0.75)
    assert by_share[0.5] == {"share": 0.5, "rows": 60, "value": 1.0, "least": 0.9}
    assert (
        abstained(task)
        == "If it answered only the surer half of the rows, accuracy would be 100.0 % instead of 75.0 %."
    )
    assert [each["right"] for each in task.reliability][-1] == 1.0
    assert (
        task.leaks is not None and task.leaks["nearly_learnt"] == 40 and task.leaks["telling_columns"] == {"tell": 1.0}
    )
    near, tells = leaked(task)
    assert "40 held-out rows" in near and tells.startswith("tell alone tells label in 100.0 % of the held-out rows")
    assert task.labels_curve is not None and [p["rows"] for p in task.labels_curve["points"]] == [20, 40]
    assert more_labels(task).startswith(("More labels would help", "More labels would hardly help"))
    text = html.unescape(page)
    assert "How sure it is" in text and "Would more labels help?" in text and tells in text
    assert text.count("<figure>") == 4, "and the one of answers and truths"


def test_the_same_in_chinese() -> None:
    _, page = _task("zh")
    text = html.unescape(page)
    assert "把握如何" in text and "更多标签有用吗？" in text and "仅凭 tell 就能在 100.0 % 的留出行中得知 label" in text
