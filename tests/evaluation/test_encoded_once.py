"""Judging a model encodes each column of the held-out rows once, for the ledger and for the answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import worlds

from onetrunk.data import prepare
from onetrunk.data.table import Table
from onetrunk.evaluation.evidence_folder import evaluate_model
from onetrunk.evaluation.gather import gather_evidence
from onetrunk.inference.model_folder import Model, Task

ROWS = 24
TYPES = {"note": "text", "kind": "category", "price": "number"}
TABLE = {
    "note": [f"{word} number {i % 5}" for i, word in zip(range(ROWS), ("a pear", "a plum", "an egg") * 8, strict=True)],
    "kind": ["fruit", "fruit", "food"] * 8,
    "price": [float(i % 7) for i in range(ROWS)],
}


@pytest.fixture
def encoded_values(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many values of each type were encoded."""
    counts: Counter[str] = Counter()
    real = prepare.encode_values

    def counting(encoder: Any, values: Any, *rest: Any) -> Any:
        counts[encoder.type_name] += len(values)
        return real(encoder, values, *rest)

    monkeypatch.setattr(prepare, "encode_values", counting)
    return counts


def _saved(tasks: list[Task], folder: Path) -> Model:
    model = worlds.model(TABLE, TYPES)
    model.tasks = tasks
    model.save(folder)
    return model


def test_each_column_is_encoded_once_for_all_tasks(encoded_values: Counter[str], tmp_path: Path) -> None:
    tasks = [Task(["note", "price"], ["kind"]), Task(["note", "kind"], ["price"])]
    model = _saved(tasks, tmp_path / "model")
    table = TABLE | {"kind": [None, *TABLE["kind"][1:]]}  # so that one task has a row less than the other
    evidence = evaluate_model(model, Table(table), None, tmp_path / "model")
    assert encoded_values == {"text": ROWS, "category": ROWS, "number": ROWS}
    anew = gather_evidence(model, table, [(task.given, task.ask[0]) for task in tasks])
    assert [task.metrics for task in evidence.tasks] == [task.metrics for task in anew.tasks]
    assert [task.rows for task in evidence.tasks] == [ROWS - 1, ROWS]


def test_so_is_a_column_that_is_judged_by_its_likelihood(encoded_values: Counter[str], tmp_path: Path) -> None:
    model = _saved([Task([], ["note"])], tmp_path / "model")
    table = {"note": [None, *TABLE["note"]]}
    evidence = evaluate_model(model, Table(table), None, tmp_path / "model")
    assert encoded_values == {"text": ROWS + 1}
    anew = gather_evidence(model, {"note": table["note"]}, [([], "note")])
    assert evidence.tasks[0].metrics == anew.tasks[0].metrics
