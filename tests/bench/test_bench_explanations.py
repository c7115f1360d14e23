"""The planted worlds hold their causes, and the comparisons of explanations run, in a small form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import worlds

from bench import explain_faithful, explain_planted
from bench.common import Run
from bench.planted import ANSWER, NEITHER, WORLDS, first_is_cause, questions, world
from onetrunk.core.events import ignore
from onetrunk.core.registry import column_types


def test_there_is_a_world_of_every_column_type() -> None:
    assert sorted(WORLDS) == column_types.names()


@pytest.mark.parametrize("kind", WORLDS)
def test_a_world_holds_one_cause_and_the_answer_rests_on_it(kind: str) -> None:
    made = world(kind, 40)
    assert {*made.answers} - {NEITHER} == {"left", "right"} and world(kind, 40).answers == made.answers
    torch.manual_seed(0)
    model = worlds.model(
        {**made.columns, ANSWER: made.answers}, {**made.types, ANSWER: "category"}, options=made.options
    )
    asked, right = questions(model, made, np.arange(40))
    assert len(asked) == round(sum(answer != NEITHER for answer in made.answers) * right)
    for question, is_cause in asked:
        causes = [is_cause(each.column, each.parts, k) for each in question.columns for k in range(len(each.parts))]
        assert 0 < sum(causes) < len(causes)
        best = np.array(causes, dtype=float)
        assert first_is_cause(question, best, is_cause) and not first_is_cause(question, -best, is_cause)


@pytest.mark.parametrize("bench", [explain_planted, explain_faithful], ids=["planted", "faithful"])
def test_a_comparison_in_a_small_form(bench: object, tmp_path: Path) -> None:
    settings = ["types=[number]", "rows=200", "steps=40", "explained=10"]
    figures = bench.compare(Run("x", "test", 0, settings, True, tmp_path, ignore))  # type: ignore[attr-defined]
    number = figures.also["number"]
    assert number["answered right"] > 0.8 and number["rows"] >= 8
    if bench is explain_planted:
        assert figures.ours > 0.9 and number["any part"] == 0.25
    else:
        assert figures.ours == 1 and number["marginals"]["gain"] > number["random"]["gain"]
