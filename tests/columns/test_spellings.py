"""A cell means the same whatever stands near it and wherever it comes from: what the model learnt decides."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.registry import column_types
from onetrunk.data.conventions import conventions
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import as_learnt, encode, fit_columns
from onetrunk.data.table import Table, infer_types, read

DAYS = ["2024-01-31", "2024-02-29", "2024-12-01"]
# What training rows hold, as cells of a file; other spellings of the first three, typed and as text.
CASES: dict[str, tuple[str, list[str], list[Any], list[str]]] = {
    "truth": ("category", ["true", "false", "true"], [True, False, True], ["True", "FALSE", " true "]),
    "numbers": ("category", ["1.0", "0.0", "2.0"], [1, 0.0, 2], ["1", "0", "2.00"]),
    "whole": ("category", ["1", "0", "2"], [1.0, 0, 2.0], ["1.0", "0", "2"]),
    "times": ("category", ["18:00", "09:30", "07:05"], ["18:00:00", "09:30", "7:05"], ["18:00", "9:30:00", "07:05"]),
    "texts": ("category", ["3.1", "3.10", "4.20"], ["3.1", "3.10", "4.20"], ["3.1", "3.10", "4.20"]),
    "words": ("category", ["true", "no", "1.5"], [True, "no", 1.5], ["true", "no", "1.5"]),
    "number": ("number", ["1.50", "1234.5", "-3"], [1.5, 1234.5, -3], ["1.5", "1,234.5", "-3.0"]),
    "comma": ("number", ["1,5", "1.234,5", "2.345"], [1.5, 1234.5, 2345], ["1,50", "1234,5", "2.345,0"]),
    "unit": ("number", ["1.5 kg", "20 kg", "-3 kg"], [1.5, 20, -3], ["1500 g", "20", "-3.0kg"]),
    "day": ("date", DAYS, [datetime.date.fromisoformat(d) for d in DAYS],
            ["2024-01-31 00:00", "29 Feb 2024", "2024/12/1"]),
    "day first": ("date", ["31/01/2024", "05/04/2024", "01/12/2024"],
                  [datetime.date(2024, 1, 31), datetime.date(2024, 4, 5), datetime.date(2024, 12, 1)],
                  ["2024-01-31", "5.4.2024", "1/12/2024"]),
    "text": ("text", ["a good day", "10.50", "true"], ["a good day", "10.50", "true"], ["a good day", "10.50", "true"]),
}  # fmt: skip
ODD = {"category": "odd one", "number": "n/k", "date": "soon", "text": "an odd one"}


def file(path: Path, cells: Sequence[str | None]) -> Table:
    path.write_text(
        "".join(f"{'x' if i < 0 else cell}\n" for i, cell in enumerate(["x", *cells], -1)), encoding="utf-8"
    )
    return read(path, separator=";")


def learnt(tmp_path: Path, kind: str, cells: list[str]) -> tuple[list[Column], dict[str, Encoder]]:
    table = file(tmp_path / "train.csv", cells * 20)
    return fit_columns(table, ["x"], {"x": kind}, conventions(table, {"x": kind}, {}))


def encoded(table: Table, columns: list[Column], encoders: dict[str, Encoder]) -> list[dict[str, list[Any]]]:
    ledger = Ledger()
    store = encode(table, columns, encoders, ledger)
    (content,) = store.contents
    rows = [int(i) for i in store.index[:3, 0]]
    assert min(rows) >= 0, ledger.lines()
    return [{name: array.tolist() for name, array in content.take(np.array([i])).gather().items()} for i in rows]


def sources(tmp_path: Path, kind: str, cells: list[str], typed: list[Any], texts: list[str]) -> dict[str, Table]:
    """The same three rows, and others after them."""
    plain = [v.isoformat() if isinstance(v, datetime.date) else v for v in typed]
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps({"x": v}) for v in [*plain, None]))
    parquet.write_table(pa.table({"x": [str(v) for v in texts]}), tmp_path / "a.parquet")
    return {
        "file": file(tmp_path / "same.csv", cells),
        "file with an odd row": file(tmp_path / "odd.csv", [*cells, ODD[kind]]),
        "other spellings in a file": file(tmp_path / "texts.csv", texts),
        "other spellings, each alone": Table.concat([file(tmp_path / f"{i}.csv", [t]) for i, t in enumerate(texts)]),
        "rows of Python": read([{"x": v} for v in typed]),
        "rows of Python as text": read([{"x": v} for v in texts]),
        "a DataFrame": read(pd.DataFrame({"x": pd.Series(typed, dtype=object)})),
        "JSON lines": read(lines),
        "Parquet": read(tmp_path / "a.parquet"),
    }


@pytest.mark.parametrize("name", CASES)
def test_every_spelling_and_format_means_the_same(tmp_path: Path, name: str) -> None:
    kind, cells, typed, texts = CASES[name]
    columns, encoders = learnt(tmp_path, kind, cells)
    expected = encoded(file(tmp_path / "train2.csv", cells * 20), columns, encoders)
    assert len({repr(each) for each in expected}) == len(set(cells))  # each its own
    for source, table in sources(tmp_path, kind, cells, typed, texts).items():
        assert encoded(table, columns, encoders) == expected, source


@pytest.mark.parametrize("name", CASES)
def test_what_was_learnt_is_kept(tmp_path: Path, name: str) -> None:
    """Options and knowledge, as a model folder keeps them, read the same."""
    kind, cells, typed, texts = CASES[name]
    columns, encoders = learnt(tmp_path, kind, cells)
    (key,) = encoders
    again = column_types.get(kind).encoder(json.loads(json.dumps(encoders[key].options.model_dump())))
    again.set_knowledge(json.loads(json.dumps(encoders[key].knowledge())))
    for source, table in sources(tmp_path, kind, cells, typed, texts).items():
        assert encoded(table, columns, {key: again}) == encoded(table, columns, encoders), source


@pytest.mark.parametrize("name", CASES)
def test_values_as_learnt_can_be_compared(tmp_path: Path, name: str) -> None:
    """For truths, baselines and rows that were seen: one fingerprint whatever a value's spelling and source."""
    kind, cells, typed, texts = CASES[name]
    columns, encoders = learnt(tmp_path, kind, cells)
    fingerprint = column_types.get(kind).encoder.fingerprint
    prints = set()
    for table in sources(tmp_path, kind, cells, typed, texts).values():
        prints.add(tuple(map(fingerprint, list(as_learnt(table, columns, encoders)["x"])[:3])))
    assert len(prints) == 1


def test_words_that_are_no_class_stay_what_they_are(tmp_path: Path) -> None:
    columns, encoders = learnt(tmp_path, "category", ["true", "false"])
    table = Table({"x": ["pending", "true", 1, None, {"a": 1}, ["true"]]})
    assert as_learnt(table, columns, encoders)["x"] == ["pending", True, True, None, {"a": 1}, [True]]


def test_classes_of_mixed_rows_are_joined_where_one_text_means_one_value() -> None:
    encoder = column_types.get("category").encoder({})
    encoder.fit([True, "true", False, "no", "1.50", "1.5", 1.5])
    assert encoder.class_names() == ["1.5", "1.50", "False", "True", "no"]


def test_types_of_a_whole_table_hold_beyond_one_odd_cell(tmp_path: Path) -> None:
    clean, odd = ["0.5", "1.25", "7"] * 40, [*["0.5", "1.25", "7"] * 40, "n/k"]
    assert infer_types(file(tmp_path / "a.csv", clean)) == infer_types(file(tmp_path / "b.csv", odd)) == {"x": "number"}


@pytest.mark.parametrize(("kind", "field"), [("items", "item"), ("trace", "right")])
def test_steps_of_histories_mean_the_same_in_every_spelling(kind: str, field: str) -> None:
    column = {"right": [[True, False, True], ["true", "FALSE", "True"], [1, 0, 1]],
              "item": [[7, 8, 9], ["7", "8.0", "9"], [7.0, 8.0, 9.0]]}[field]  # fmt: skip
    encoder = column_types.get(kind).encoder({})
    encoder.fit([{"skill": ["a", "b", "a"], field: column[0]}] * 4 if kind == "trace" else [column[0]] * 4)
    values = [{"skill": ["a", "b", "a"], field: each} if kind == "trace" else each for each in column]
    first, *others = [encoder.encode(value) for value in values]
    assert all(np.array_equal(first[name], other[name]) for other in others for name in first)
