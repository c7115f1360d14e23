"""Traces: an answer at every step from what stands before it, and from nothing after it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import worlds

from onetrunk.columns.families.history.encoder import FIRST, MISSING, START
from onetrunk.core.answer import Answer
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError

Trace = partial(worlds.Sides, "trace")
ROWS = [
    {"skill": ["a", "a", "b"], "correct": [False, True, True]},
    {"skill": ["b", "c"], "correct": [True, True]},
    {"skill": ["c"], "correct": [False]},
    {"skill": ["a", "b", "c", "a"], "correct": [True, False, True, True]},
]


def fitted(values: list[Any] = ROWS, **options: Any) -> Any:
    sides = Trace(options)
    sides.fit(values)
    return sides


def model(**options: Any) -> Any:
    return worlds.model({"h": ROWS}, {"h": "trace"}, options={"h": options})


def test_what_is_known_stands_at_its_step_and_what_is_asked_one_later() -> None:
    sides = fitted()
    assert sides.asked == "correct" and sides.known() == ["skill"]
    assert fitted(ask="skill").known() == ["correct"]
    content = worlds.content_of(sides, ROWS)
    segment = sides.segment(content, Role.ASKED, worlds.keys(4))
    skill, correct = content.gather()["skill"], content.gather()["correct"]
    assert np.array_equal(segment.content["now skill"], skill)
    assert segment.content["skill"][:3].tolist() == [START, *skill[:2]]
    assert segment.content["correct"][:3].tolist() == [START, *correct[:2]]
    assert np.array_equal(segment.targets["id"] + FIRST, correct)
    with pytest.raises(DataError, match="no field 'mood' in the histories, which hold skill, correct"):
        fitted(ask="mood")


def test_no_step_sees_its_own_answer_or_what_comes_after() -> None:
    made = model()
    one = {"skill": ["a", "b", "a", "c"], "correct": [True, False, True, True]}
    for t in range(4):
        other = {"skill": list(one["skill"]), "correct": list(one["correct"])}
        other["correct"][t] = not other["correct"][t]
        for later in range(t + 1, 4):
            other["skill"][later] = "b"
        p, q = (made.answer({"h": [value]}, "h", [])[0].p for value in (one, other))
        np.testing.assert_allclose(p[: t + 1], q[: t + 1], atol=1e-6)
        assert t == 3 or np.abs(p[t + 1 :] - q[t + 1 :]).max() > 1e-4


def test_training_reads_what_answering_reads() -> None:
    made = model()
    store = worlds.store_of(made, {"h": ROWS})
    batch = worlds.batch(store, range(4), [], ["h"])
    read = batch.reads["predict"]["h"]
    with torch.inference_mode():
        h = made.network.encode(batch).h_ND[read.flat_r]
        sides = worlds.Sides.of(made, "h")
        p = torch.nn.functional.linear(h, sides.head, sides.bias).softmax(-1).numpy()
    answers = made.answer({"h": ROWS}, "h", [])
    np.testing.assert_allclose(np.concatenate([a.p for a in answers]), p, atol=1e-5)


def test_answers_that_are_left_out_are_those_to_come() -> None:
    made = model()
    skills = ["a", "b", "c"]
    values = [
        {"skill": skills, "correct": known} for known in ([True, False, True], [True, False], [True, False, None])
    ]
    p = made.answer({"h": values}, "h", [])
    np.testing.assert_allclose(p[0].p, p[1].p, atol=1e-6)
    np.testing.assert_allclose(p[1].p, p[2].p, atol=1e-6)
    assert p[1].value["skill"] == ["a", "b", "c"] and set(p[1].value["correct"]) <= {True, False}
    assert p[1].scores == pytest.approx(p[1].p.max(1).tolist())
    (nothing,) = made.answer({"h": [None]}, "h", [])
    assert nothing.value["skill"] == [None] and len(nothing.p) == 1
    ledger = worlds.Ledger()
    made.answer(
        {"h": [{"skill": ["never"], "correct": []}, {"skill": ["a"], "correct": "yes"}]}, "h", [], ledger=ledger
    )
    assert "expected a list of steps" in " ".join(ledger.lines())


def test_every_step_with_a_truth_is_judged() -> None:
    sides = fitted()
    one = Answer({"skill": ["a", "a", "b"], "correct": [False, True, True]})
    assert sides.measure([one], [ROWS[0]])["auc"] == 1
    metrics = sides.measure([one], [{"skill": ["a", "a", "b"], "correct": [None, True, False]}])
    assert metrics["accuracy"] == 0.5, "what is not known is not judged"
    before, whole = sides.split(ROWS[0])
    assert whole == ROWS[0], "all steps are judged"
    assert before == {"skill": ["a", "a", "b"], "correct": [False, True, None]}, "the last answer is still to come"
    with pytest.raises(BadValueError, match="no step has a known correct"):
        sides.split({"skill": ["a"], "correct": [None]})


def test_baselines_are_shares() -> None:
    sides = fitted()
    x = sides.features().fit_transform(ROWS)
    assert x.toarray()[0].sum() == 6, "three skills, three answers"
    baselines = {name: e.fit(x, sides.target(ROWS)) for name, e in sides.baselines().items()}
    assert list(baselines) == ["share", "share by skill"]
    true = sides.classes["correct"].index("True")
    answers = sides.answers_from(baselines["share by skill"], x)
    row = sides.probabilities(answers[0], {"skill": ["a", "c", "new"], "correct": [True, True, True]})[:, true]
    share = 7 / 10
    expected = [(3 + share) / 5, (2 + share) / 4, share]
    right = {"a": (3, 4), "c": (2, 3)}
    expected = [(right[s][0] + share) / (right[s][1] + 1) for s in "ac"] + [share]
    assert row == pytest.approx(expected)
    assert sides.measure(sides.answers_from(baselines["share"], x), ROWS)["auc"] == 0.5


def test_a_step_of_which_nothing_is_known_is_missing() -> None:
    sides = fitted()
    assert sides.encode({"skill": [None, "a"], "correct": [True, None]})["skill"].tolist()[0] == MISSING
    assert Trace().recognise(ROWS) > 0.5 and Trace().recognise([{"a": [1.5]}]) == 0 and Trace().recognise([["a"]]) == 0
