"""The worst slice is found where there is one, and chance is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from onetrunk.evaluation.audit.slices import worst_slices

TYPES = {"town": "category", "age": "number", "note": "text", "name": "text"}


def _rows(n: int = 600) -> dict[str, list]:
    dice = np.random.default_rng(0)
    return {
        "town": dice.choice(["here", "there", "far"], n).tolist(),
        "age": dice.integers(18, 90, n).tolist(),
        "note": ["word " * int(k) for k in dice.integers(1, 40, n)],
        "name": [f"somebody {i}" for i in range(n)],
    }


def test_a_planted_weakness_is_the_worst_slice() -> None:
    rows, dice = _rows(), np.random.default_rng(1)
    for column, group, is_weak in (
        ("town", "far", lambda i: rows["town"][i] == "far"),
        ("age", "18 to", lambda i: rows["age"][i] < 36),
        ("length of note", "5 to", lambda i: len(rows["note"][i]) < 50),
    ):
        right = np.array([dice.random() < (0.5 if is_weak(i) else 0.9) for i in range(600)]) * 1.0
        found = worst_slices(right, True, rows, TYPES)
        worst = found.worst[0]
        assert worst.column == column and worst.group.startswith(group)
        assert worst.behind > found.by_chance and worst.p < 0.01 and worst.score.value < 0.65 < 0.8 < worst.elsewhere


def test_errors_are_worse_the_higher() -> None:
    rows = _rows()
    errors = np.where(np.array(rows["town"]) == "here", 3.0, 1.0) + np.random.default_rng(0).random(600)
    found = worst_slices(errors, False, rows, TYPES)
    assert (found.worst[0].column, found.worst[0].group) == ("town", "here")
    assert found.worst[0].score.value == pytest.approx(3.5, abs=0.1)


def test_the_worst_of_many_slices_is_compared_with_the_worst_by_chance() -> None:
    rows = _rows()
    clear = []
    for seed in range(20):
        found = worst_slices((np.random.default_rng(seed).random(600) < 0.8) * 1.0, True, rows, TYPES, seed)
        clear.append(found.worst[0].behind > found.by_chance)
    assert sum(clear) <= 1
    one = worst_slices((np.random.default_rng(0).random(600) < 0.5) * 1.0, True, {"town": ["a", "b"] * 300}, TYPES)
    assert one.by_chance == pytest.approx(norm.ppf(0.995), abs=0.25), "two slices that are each other's rest"


def test_missing_values_are_a_slice_and_names_are_none() -> None:
    rows = {"town": [None if i % 3 == 0 else "here" for i in range(300)], "name": [f"person {i}" for i in range(300)]}
    right = np.array([i % 3 != 0 for i in range(300)]) * 1.0
    found = worst_slices(right, True, rows, TYPES)
    assert (found.worst[0].column, found.worst[0].group, found.worst[0].score.value) == ("town", "missing", 0.0)
    assert {each.column for each in found.worst} <= {"town", "length of name"}
    assert worst_slices(np.ones(300), True, rows, TYPES).worst == []
