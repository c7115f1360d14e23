"""Average precision against its definition, computed slowly; the naive baseline's boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onetrunk.columns.boxes.baselines import UsualBoxes
from onetrunk.metrics.detection import average_precision, precision_recall

Entry = dict[str, Any]


def scenes(n: int, seed: int) -> tuple[list[list[Entry]], list[list[Entry]]]:
    """True boxes, and answers: most of them a little moved, some doubled, some made up."""
    dice = np.random.default_rng(seed)
    truths, answers = [], []
    for _ in range(n):
        true = [
            {"label": str(dice.choice(["cat", "dog"])), "box": [*dice.uniform(0, 200, 2), *dice.uniform(20, 80, 2)]}
            for _ in range(dice.integers(0, 6))
        ]
        collected = []
        for entry in true:
            for _ in range(dice.integers(0, 3)):
                moved = (np.array(entry["box"]) + dice.normal(0, 3, 4)).clip(1)
                collected.append({**entry, "box": moved.tolist(), "score": float(dice.uniform())})
        for label in ("cat", "dog", "cow"):
            box = [*dice.uniform(0, 200, 2), *dice.uniform(20, 80, 2)]
            collected.append({"label": label, "box": box, "score": float(dice.uniform(0, 0.7))})
        truths.append(true)
        answers.append(collected)
    return truths, answers


def slow_precision(truths: list[list[Entry]], answers: list[list[Entry]], label: str, least: float) -> float:
    """COCO's: answers by score, each takes the best free true box of its picture; precision at 101 recalls, made
    falling."""
    predicted = [(e["score"], i, e["box"]) for i, entries in enumerate(answers) for e in entries if e["label"] == label]
    free = {i: [e["box"] for e in entries if e["label"] == label] for i, entries in enumerate(truths)}
    total = sum(map(len, free.values()))
    hits = []
    for _, i, box in sorted(predicted, key=lambda f: -f[0]):
        best = max(free[i], key=lambda t: overlap(t, box), default=None)
        hit = best is not None and overlap(best, box) >= least
        if hit:
            free[i].remove(best)
        hits.append(hit)
    recall = np.cumsum(hits) / total
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    at = [np.flatnonzero(recall >= r) for r in np.linspace(0, 1, 101)]
    return float(np.mean([falling[place[0]] if len(place) else 0.0 for place in at]))


def overlap(a: list[float], b: list[float]) -> float:
    w = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_average_precision_is_that_of_its_definition(seed: int) -> None:
    truths, answers = scenes(15, seed)
    precision = average_precision(truths, answers)
    slow = [[slow_precision(truths, answers, label, least) for label in ("cat", "dog")]
            for least in np.linspace(0.5, 0.95, 10)]  # fmt: skip
    assert list(precision) == ["mAP@.5", "mAP@[.5:.95]"]
    assert precision["mAP@.5"] == pytest.approx(np.mean(slow[0]), abs=1e-6)
    assert precision["mAP@[.5:.95]"] == pytest.approx(np.mean(slow), abs=1e-6)
    assert 0.1 < precision["mAP@[.5:.95]"] < precision["mAP@.5"] < 0.95
    recall, curves = precision_recall(truths, answers)
    assert recall.shape == (101,) and curves.keys() == {"cat", "dog"}
    assert curves["dog"].mean() == pytest.approx(slow[0][1], abs=1e-6)


def test_true_answers_are_perfect_and_no_truth_is_undefined(capsys: pytest.CaptureFixture[str]) -> None:
    truths, _ = scenes(6, 3)
    assert average_precision(truths, truths)["mAP@[.5:.95]"] == pytest.approx(1)
    assert average_precision(truths, [[] for _ in truths])["mAP@.5"] == 0
    assert average_precision([[], []], [truths[0], []]) == {"mAP@.5": None, "mAP@[.5:.95]": None}
    assert average_precision([[{"label": "a", "box": [3, 3, 0, 5]}]], [[]])["mAP@.5"] is None
    assert capsys.readouterr().out == ""


def test_the_naive_baseline_answers_the_usual_boxes_everywhere() -> None:
    near = [("a", [10.0, 10, 20, 20]), ("a", [12.0, 10, 20, 20]), ("b", [50.0, 50, 10, 10])]
    y = np.empty(4, dtype=object)
    y[:] = [near, near[:2], near, []]
    answers = UsualBoxes().fit(np.zeros((4, 1)), y).predict(np.zeros((2, 1)))
    assert answers[0] == answers[1]
    (a, *more), b = [e for e in answers[0] if e["label"] == "a"], [e for e in answers[0] if e["label"] == "b"]
    assert len(more) == 1 and sorted([a["box"][0], more[0]["box"][0]]) == [10, 12]  # 6 of a in 4 pictures: 2 of them
    assert b == [{"label": "b", "box": [50, 50, 10, 10], "score": 0.5}]
