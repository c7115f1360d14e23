"""The data side needs no torch: a table is read, inspected, split, fitted and encoded where it cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from worlds import CASES

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is blocked")

sys.meta_path.insert(0, Blocked())
"""

TABLE = """
import numpy as np
from onetrunk.data import spool
from onetrunk.data.cache import ColumnCache
from onetrunk.data.inspection import inspect
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.seen_rows import record, splits_before
from onetrunk.data.split import split
from onetrunk.data.table import infer_types, read, roles

path, place = sys.argv[1:]
for bound in (spool.IN_MEMORY_BYTES, 0):
    spool.IN_MEMORY_BYTES = bound
    table = read(path)
    types = infer_types(table)
    assert types == {"review": "text", "price": "number", "day": "date", "label": "category"}, types
    given, ask, _ = roles(table, types, ["label"])
    parts = split(table, types, "auto", given=given, ask=ask)
    assert (splits_before(table, [record(table, types, given, parts.indices())]) >= 0).all()
    train = table.take(parts.train)
    columns, encoders = fit_columns(train, [*given, *ask], types, {}, ColumnCache(place))
    prepared = {column.name: encoders[column.key] for column in columns}
    assert inspect(table, types, ask, parts, prepared=prepared).rows == 200
    store = encode(train, columns, encoders, Ledger())
    assert given == ["review", "price", "day"] and (store.index >= 0).all(), (given, store.index.min(0))
assert not any(name.split(".")[0] == "torch" for name in sys.modules)
"""

VERB = """
import onetrunk

assert onetrunk.inspect(sys.argv[1], ask=["label"], split="random", types={"day": "date"}, quiet=True).rows == 200
"""

VALUES = """
import pickle
from onetrunk.data.inspection import inspect
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.table import Table

kind, options, values = pickle.load(open(sys.argv[1], "rb"))
table = Table({"x": values, "y": list(range(len(values)))})
types = {"x": kind, "y": "number"}
columns, encoders = fit_columns(table, ["x"], types, {"x": options})
store = encode(table, columns, encoders, Ledger())
assert len(store.contents[0]) and inspect(table, types, prepared={"x": encoders[columns[0].key]}).columns[0].present
assert not any(name.split(".")[0] == "torch" for name in sys.modules)
"""


def run(code: str, *arguments: Path) -> None:
    command = [sys.executable, "-c", BLOCKED + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def rows(place: Path) -> Path:
    lines = [
        f"the sea is {i} deep,{i / 7:.3f},2024-0{1 + i % 9}-11,{'good' if i % 7 < 4 else 'bad'}" for i in range(200)
    ]
    (place / "rows.csv").write_text("review,price,day,label\n" + "\n".join(lines) + "\n")
    return place / "rows.csv"


def test_a_table_is_prepared_without_torch(tmp_path: Path) -> None:
    run(TABLE, rows(tmp_path), tmp_path / "cache")


def test_the_verb_inspect_does_without_torch(tmp_path: Path) -> None:
    run(VERB, rows(tmp_path))


@pytest.mark.parametrize("name", CASES)
def test_every_type_is_prepared_without_torch(name: str, tmp_path: Path) -> None:
    import pickle

    case = CASES[name]
    (tmp_path / "values").write_bytes(pickle.dumps((case.type, case.options, list(case.values))))
    run(VALUES, tmp_path / "values")


def test_the_block_blocks() -> None:
    with pytest.raises(AssertionError, match="torch is blocked"):
        run("import torch")
