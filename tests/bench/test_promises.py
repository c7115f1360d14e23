"""The comparisons of probabilities and of what sets promise, in their small form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import common, conformal, decisions
from bench.common import Run
from onetrunk.core.answer import Answer
from onetrunk.core.events import ignore


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In this process; it keeps nothing among the results."""

    def in_this_process(run: Run, title: str, arguments: dict[str, Any]) -> dict[str, Any]:
        told = {name: value for name, value in arguments.items() if name != "call"}
        assert arguments["call"] == "bench.decisions:one"
        return decisions.one(**told, place=str(run.place))

    monkeypatch.setattr("bench.speed.one_side", in_this_process)
    monkeypatch.setattr(conformal, "RESULTS", tmp_path / "results")
    return Run("decisions", "test", 0, decisions.QUICK, True, tmp_path, ignore)


def test_a_small_table_is_judged_before_and_after(run: Run) -> None:
    figures = decisions.compare(run)
    (found,) = figures.also["sets"].values()
    assert found["rows"] == 600 and set(found["ece"]) == {"before", "after"}
    value, low, high = found["ece"]["after"]
    assert figures.ours == value and figures.interval == [low, high] and low <= high < 0.15
    assert figures.rival == found["ece"]["before"][0]
    assert found["coverage"] == pytest.approx(0.9, abs=0.06) and 0.5 < found["size"] < 2
    assert found["distance"] == abs(found["coverage"] - 0.9)
    assert json.loads(json.dumps(figures.also)) and figures.also["holds"] == {"made": low <= 0.03}


def test_conformal_judges_the_models_of_decisions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {
        name: {"rows": 900, "distance": distance, "by_probability": [0.97, 1.5]}
        for name, distance in (("adult", 0.002), ("ag_news", 0.007), ("open_payments", 0.004))
    }
    commit = common.versions()["commit"].removesuffix("-dirty")
    kept = {"versions": {"commit": commit}, "seed": 0, "also": {"sets": sets | {"compas": {}}}}
    conformal.RESULTS.mkdir()
    (conformal.RESULTS / "decisions.json").write_text(json.dumps(kept))
    plain = Run("conformal", "test", 0, [], True, run.place, ignore)
    figures = conformal.compare(plain)
    assert figures.ours == 0.007 and figures.also["worst"] == "ag_news" and figures.rival == pytest.approx(0.07)
    kept["versions"]["commit"] = "of another"
    (conformal.RESULTS / "decisions.json").write_text(json.dumps(kept))
    monkeypatch.setattr(conformal, "judge_all", lambda run, names: {n: {**sets[n], "distance": 0.5} for n in names})
    assert conformal.compare(plain).ours == 0.5


def test_the_fewest_classes_are_those_that_reach_it() -> None:
    class Evaluation:
        class encoder:
            @staticmethod
            def name(value: str) -> str:
                return value

    answers = [Answer("a", {"a": 0.95, "b": 0.05}), Answer("a", {"a": 0.6, "b": 0.4})]
    assert decisions._fewest(Evaluation, answers, ["b", "b"]) == [0.5, 1.5]
    assert np.isclose(decisions._held(0.9, 1000)["distance"], 0)
