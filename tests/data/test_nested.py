"""Objects in cells become columns, alike when training, predicting and reading from any format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

import onetrunk
from onetrunk.core.errors import DataError
from onetrunk.data import spool
from onetrunk.data.nested import unnested, unnested_for
from onetrunk.data.table import Table, read


def rows(n: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "customer": {"plan": ["pro", "free"][i % 2], "seats": i % 7, "home": {"city": "ab"[i % 3 == 0]}},
            "label": {"stay": 0.9 - 0.6 * (i % 2), "go": 0.1 + 0.6 * (i % 2)},
        }
        for i in range(n)
    ]


def test_objects_become_columns_and_distributions_stay() -> None:
    table = unnested(read(rows()))
    assert table.names == ["customer.plan", "customer.seats", "customer.home.city", "label"]
    assert table["customer.plan"][:2] == ["pro", "free"] and table["label"][0] == {"stay": 0.9, "go": 0.1}
    assert any("customer.plan" in note for note in table.notes)
    assert unnested(read(rows()), ["customer"]).names == ["customer", "label"]
    known = ["customer.plan", "customer.home.city", "label"]
    assert unnested_for(Table({"customer": [{"plan": "pro", "seats": None}, None]}), known).columns == {
        "customer.plan": ["pro", None], "customer.seats": [None, None],
    }  # fmt: skip
    assert unnested_for(Table({"label": [{"stay": 1.0}]}), known).names == ["label"]


def test_values_of_other_types_stay() -> None:
    steps = [{"skill": ["a", "b"], "correct": [True, False]}, {"skill": ["b"], "correct": [True]}]
    assert unnested(Table({"x": steps})).names == ["x"]
    assert unnested(Table({"x": [{"a": 1}, "text"]})).names == ["x"]
    with pytest.raises(DataError, match=r"'x\.a'.*rename"):
        unnested(Table({"x": [{"a": "u"}], "x.a": [3]}))


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "mapped"])
def test_every_format_gives_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"rows.{'parquet' if kind == 'parquet' else 'jsonl'}"
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows()), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows())))
    if kind == "mapped":
        monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 100)
    table, expected = unnested(read(str(path))), unnested(read(rows()))
    assert table.is_mapped == (kind == "mapped")
    assert {name: list(values) for name, values in table.columns.items()} == expected.columns


def test_a_map_of_arrow_is_a_distribution() -> None:
    column = pa.array([[("yes", 0.75), ("no", 0.25)], None], pa.map_(pa.string(), pa.float64()))
    assert read(pa.table({"label": column})).columns == {"label": [{"yes": 0.75, "no": 0.25}, None]}


def test_train_predict_and_evaluate_take_nested_rows_and_soft_labels(tmp_path: Path) -> None:
    data, quick = tmp_path / "rows.jsonl", ["size=nano", "finetune.steps=2", "train.tensorboard=false"]
    data.write_text("\n".join(map(json.dumps, rows(120))))
    made = onetrunk.train(str(data), ask="label", out=str(tmp_path / "m"), settings=quick, quiet=True)
    assert set(made.columns) == {"customer.plan", "customer.seats", "customer.home.city", "label"}
    p = onetrunk.predict(made, rows(2), quiet=True)["label_p_stay"].tolist()
    assert p == pytest.approx([0.9, 0.3], abs=0.1), "as the annotators, not as their majority"
    evidence = onetrunk.evaluate(str(tmp_path / "m"), rows(8), allow_equal_rows=True, quiet=True)
    entropy = 0.468  # of these labels, nats: nothing can be below it
    assert entropy - 1e-3 < evidence.tasks[0].metrics["log_loss"] < entropy + 0.1
    answers = onetrunk.predict(made, json.dumps(rows(1)[0]), quiet=True)
    assert answers["label"].tolist() == ["stay"]
