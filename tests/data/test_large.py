"""A table larger than memory takes the same path as a small one: the same values, types, splits, knowledge, arrays."""

from __future__ import annotations

import io
import json
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from onetrunk.core.errors import DataError
from onetrunk.core.values import Chain, Mapped, Repeated, Values, in_memory, of_present, present, sample_present
from onetrunk.data import duplicates, spool, table
from onetrunk.data.cache import ColumnCache
from onetrunk.data.conventions import conventions
from onetrunk.data.inspection import inspect
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import as_learnt, encode, fit_columns
from onetrunk.data.readers.cells import MISSING
from onetrunk.data.readers.common import plain
from onetrunk.data.seen_rows import record, splits_before
from onetrunk.data.split import split
from onetrunk.data.table import Table, infer_types, read, roles

ROWS = 9000


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From here on no table is small, and none is looked at all at once."""

    def becomes() -> None:
        monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
        monkeypatch.setattr("onetrunk.core.spans._AT_ONCE", 700)
        monkeypatch.setattr(duplicates, "_ROWS_OF_PART", 500)
        monkeypatch.setattr("onetrunk.data.split._BLOCK", 400)

    return becomes


def rows(n: int = ROWS) -> dict[str, list[Any]]:
    dice = random.Random(3)
    words = ["sea", "sand", "wind", "salt", "stone", "wave", "light", "shore"]
    return {
        "review": [None if i % 97 == 0 else " ".join(dice.choices(words, k=dice.randint(1, 9))) for i in range(n)],
        "price": [None if i % 13 == 0 else round(dice.lognormvariate(2, 1), 2) for i in range(n)],
        "stars": [dice.randint(1, 5) for i in range(n)],
        "day": [f"20{10 + i % 9}-0{1 + i % 9}-1{i % 10}" for i in range(n)],
        "code": [f"{i:06d}" for i in range(n)],
        "label": [dice.choice(["yes", "no", "perhaps"]) for _ in range(n)],
    }


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
    elif path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            for record_ in frame.to_dict("records"):
                file.write(json.dumps({k: v for k, v in record_.items() if v is not None}) + "\n")
    elif path.suffix == ".parquet":
        pd.DataFrame(columns).to_parquet(path, index=False, row_group_size=1000)
    else:
        pd.DataFrame(columns).to_feather(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".arrow"])
def test_every_format_reads_alike(suffix: str, tmp_path: Path, large: Any) -> None:
    path = write(tmp_path / f"table{suffix}", rows())
    small = read(path)
    large()
    table = read(path)
    assert all(isinstance(values, list) for values in small.columns.values())
    assert all(isinstance(values, Values) for values in table.columns.values())
    assert table.names == small.names and len(table) == ROWS
    index = np.random.default_rng(0).permutation(ROWS)[:5000]
    for name, values in small.columns.items():
        assert list(table[name]) == values, name
        assert list(map(type, table[name])) == list(map(type, values)), name
        assert list(table.take(index)[name]) == [values[i] for i in index]
        assert list(table.take(index).take(np.arange(0, 5000, 7))[name]) == [values[i] for i in index[::7]]
        assert table[name][17] == values[17] and table[name][-1] == values[-1]
        assert list(table[name][100:4000:3]) == values[100:4000:3]
    with pytest.raises(IndexError):
        table["label"][ROWS]


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "table.csv", rows(100))
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    large()
    table = read(path)
    assert list(table["stars"]) == rows(100)["stars"] and not list(place.iterdir())
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="line 3 has 1"):
        read(path)
    assert not list(place.iterdir())


def test_the_same_types_roles_splits_and_equal_rows(tmp_path: Path, large: Any) -> None:
    columns = rows()
    for values in columns.values():
        values[200:230] = values[100:130]  # rows that repeat
    path = write(tmp_path / "table.csv", columns)
    collected = []
    for step in (lambda: None, large):
        step()
        table = read(path)
        types = infer_types(table)
        given, asked, reasons = roles(table, types, ["label"])
        made = [split(table, types, spec, 1, given=given, ask=asked) for spec in ("auto", "random", "group:day")]
        by_time = split(table, types, "time:day", 1, given=given, ask=asked, allow_equal_rows=True)
        kept = record(table, types, given, made[0].indices())
        again = splits_before(table, [kept])
        seen = inspect(table, types, asked, made[0]).as_json()
        collected.append(
            (types, given, reasons, [m.as_json() for m in (*made, by_time)], kept.digest(), seen, again.tolist())
        )
        collected[-1] += ([index.tolist() for m in (*made, by_time) for index in m.indices().values()],)
    assert collected[0] == collected[1]
    assert collected[0][5]["equal"]["rows"] == 30 and "code" in collected[0][1]


def test_the_same_knowledge_and_arrays(tmp_path: Path, large: Any) -> None:
    path = write(tmp_path / "table.csv", rows())
    stores = []
    for step, cache in ((lambda: None, None), (large, None), (large, ColumnCache(tmp_path / "cache"))):
        step()
        table = read(path)
        types = infer_types(table)
        names = ["review", "price", "stars", "day", "label"]
        ledger = Ledger()
        columns, encoders = fit_columns(table, names, types, {}, cache)
        for _ in range(1 if cache is None else 2):  # the second time from the cache
            stores.append(encode(table, columns, encoders, ledger, cache))
            stores[-1].knowledge = {name: encoder.knowledge() for name, encoder in encoders.items()}
        stores[-1].lines = ledger.lines()
    for other in stores[1:]:
        assert other.knowledge == stores[0].knowledge and other.digest() == stores[0].digest()
        assert (other.index == stores[0].index).all() and (other.windows() == stores[0].windows()).all()
        for a, b in zip(stores[0].contents, other.contents, strict=True):
            left, right = a.gather(), b.gather()
            assert left.keys() == right.keys() and all((left[k] == right[k]).all() for k in left)
            some = np.arange(0, len(a), 3)
            assert all((a.take(some).gather()[k] == b.take(some).gather()[k]).all() for k in left)
    assert stores[1].lines == stores[0].lines


CELLS = [
    "1", "0", " 7", "-3", "007", "12", "1.5", "1e3", "+5", "inf", "true", "False", "TRUE", "t",
    "2020-01-02", "2020-01-02 ",
    "18:00", "18:00:05", "2020-01-02 10:20:30", "2020-01-02T10:20", "2020-01-02 10:20:30.25", "2020-01-02T10:20:30Z",
    "2020-13-01", "25:00", "abc", " ", "NA", "", "nan", "?", "99999999999999999999", "a,b", 'say "hi"', "two\nlines",
    "0x1F", "1_000", "中文", "-0", "0.5", "2020-01-02 10:20:30+01:00", " NA",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_cells_mean_what_arrow_reads_in_them(seed: int, tmp_path: Path, large: Any) -> None:
    dice = random.Random(seed)
    pools = [dice.sample(CELLS, dice.randint(1, 4)) for _ in range(8)]
    lines = [[dice.choice(pool) for pool in pools] for _ in range(dice.choice([1, 3, 40]))]
    needed = [[any(sign in cell for sign in ',"\n') for cell in line] for line in lines]
    quoted = [
        ",".join('"' + c.replace('"', '""') + '"' if q else c for c, q in zip(*pair, strict=True))
        for pair in zip(lines, needed, strict=True)
    ]
    text = "a,b,c,d,e,f,g,h\n" + "\n".join(quoted) + "\n"
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    options = arrow_csv.ConvertOptions(null_values=list(MISSING), strings_can_be_null=True)
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    expected = arrow_csv.read_csv(io.BytesIO(text.encode()), parse_options=parse, convert_options=options)
    for step in (lambda: None, large):
        step()
        table = read(path)
        for name, column in zip(table.names, expected.columns, strict=True):
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
            values = [plain(v) for v in column.to_pylist()]
            raw = [line[table.names.index(name)] for line in lines]
            codes = any(re.match(r"0\d|\d{17}", cell) for cell in raw)
            if codes and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
                values = [None if cell in MISSING else cell for cell in raw]  # codes
            assert list(table[name]) == values and list(map(type, table[name])) == list(map(type, values)), raw


def test_a_json_file_whose_columns_come_late(tmp_path: Path, large: Any) -> None:
    path = tmp_path / "table.jsonl"
    with path.open("w") as file:
        for i in range(10_000):
            more = {"late": [i, None, {"x": 1.0}], "big": 10**30} if i > 8000 else {"odd": "\ud800"}
            file.write(json.dumps({"i": i, "half": i / 2, **more}) + "\n")
    small = read(path)
    large()
    table = read(path)
    assert table.names == small.names and all(list(table[name]) == small[name] for name in small.names)
    assert (
        type(table["i"][0]) is int and type(table["half"][0]) is float and table["late"][9999] == [9999, None, {"x": 1}]
    )


def test_a_row_longer_than_a_block_is_read(tmp_path: Path, large: Any) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,x\n2," + "y" * (3 << 20) + "\n3,z\n")
    large()
    table = read(path)
    assert list(table["a"]) == [1, 2, 3] and len(table["b"][1]) == 3 << 20


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_other_encodings_and_gzip(encoding: str, tmp_path: Path, large: Any) -> None:
    import gzip

    text = "评论,标签\n" + "这家酒店的早餐很好，房间也干净。,好\n" * 40_000
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(text.encode(encoding)))
    large()
    table = read(path)
    assert table.names == ["评论", "标签"] and len(table) == 40_000 and set(table["标签"]) == {"好"}


def test_several_files_are_one_under_the_other(tmp_path: Path, large: Any) -> None:
    parts = [tmp_path / "train.csv", tmp_path / "test.csv"]
    parts[0].write_text("a,b\n" + "1,x\n" * 5000)
    parts[1].write_text("a,c\n" + "2,y\n" * 10)
    small = read(tmp_path)
    large()
    table = read(tmp_path)
    assert table.names == small.names and all(list(table[name]) == list(small[name]) for name in small.names)
    assert list(table.take(np.arange(5009, 4990, -1))["a"]) == list(small["a"])[5009:4990:-1]


def test_columns_of_values() -> None:
    column = Chain([[1, None], Repeated(None, 2), Mapped([3, 4], lambda block: [v * 2 for v in block])])
    assert list(column) == [1, None, None, None, 6, 8] and column[-1] == 8 and list(column[::-2]) == [8, None, None]
    assert present(column).tolist() == [True, False, False, False, True, True]
    assert list(of_present(column)) == [1, 6, 8] and sample_present(column, 2) == [1, 6]
    assert list(column.take(np.array([5, 0, 5]))) == [8, 1, 8] and list(column.take(np.zeros(0, dtype=int))) == []


def test_where_values_are_is_told_of_the_rows_that_are_asked(tmp_path: Path, large: Any) -> None:
    large()
    columns = rows()
    first, second = (write(tmp_path / f"{name}.parquet", columns) for name in ("a", "b"))
    made = read(f"{first},{second}")
    dice = np.random.default_rng(0)
    looked_at: list[int] = []
    for name in ("review", "price", "stars"):
        expected = np.array([value is not None for value in columns[name] * 2])
        for index in (
            np.arange(2 * ROWS),
            np.arange(40, 60),
            np.sort(dice.choice(2 * ROWS, 50)),
            dice.permutation(ROWS),
        ):
            assert (present(made.take(index)[name]) == expected[index]).all()
        assert len(present(made.take(np.zeros(0, dtype=np.int64))[name])) == 0
    values = spool.ArrowValues(
        [pa.array([1.0, None, 3.0])] * 4,
        [spool.Decode(list, lambda array: looked_at.append(len(array)) or array.is_valid())] * 4,
    )
    assert present(values.take(np.array([4, 5]))).tolist() == [False, True] and looked_at == [2]


def test_what_is_learnt_from_is_bounded_and_always_the_same() -> None:
    few = list(range(100))
    assert in_memory(few) is few
    many = Chain([list(range(3000)), list(range(3000, 5000))])
    chosen = in_memory(many, most=1000)
    assert len(chosen) == 1000 == len(set(chosen)) and chosen == sorted(chosen)
    assert chosen == in_memory(list(many), most=1000)
    long = ["x" * 10_000] * 5000
    assert len(in_memory(long, most_bytes=10_000_000)) == 1000
    assert in_memory(many) == list(range(5000))


def test_a_parquet_file_is_read_without_holding_it(tmp_path: Path, large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's own reader keeps what it has read of a file until its end, unless it is told not to."""
    dice, path = np.random.default_rng(0), tmp_path / "t.parquet"
    values = pa.array([dice.bytes(1 << 11) for _ in range(30_000)])
    parquet.write_table(pa.table({"photo": values}), path, row_group_size=500, compression="none")
    size, held = values.nbytes, []
    large()
    append = spool.Spool.append

    def spied(self: spool.Spool, batch: pa.RecordBatch) -> None:
        append(self, batch)
        held.append(pa.total_allocated_bytes())

    del values
    before = pa.total_allocated_bytes()
    monkeypatch.setattr(spool.Spool, "append", spied)
    assert len(read(path)) == 30_000
    assert max(held) - before < size / 2


def test_samples_of_large_values_are_of_fewer_rows(tmp_path: Path, large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"note": ["a word " * 20] * 3000, "size": range(3000)}).to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(table, "_SAMPLED_BYTES", 140 * 1000)
    small = read(tmp_path / "t.csv")
    assert len(small.sample(2000, "some")) == 2000, "of what is in memory anyway nothing is saved"
    large()
    mapped = read(tmp_path / "t.csv")
    assert 700 < len(mapped.sample(2000, "some")) < 1000 and len(mapped.sample(500, "some")) == 500


def test_a_full_disk_is_said_plainly(tmp_path: Path, large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from onetrunk.core.errors import ResourceError

    path = write(tmp_path / "table.csv", rows(1000))
    large()

    def full(self: object, batch: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa.ipc.RecordBatchStreamWriter, "write_batch", full, raising=True)
    with pytest.raises(ResourceError, match="No space to write"):
        read(path)


def test_equal_rows_are_found_in_parts(large: Any) -> None:
    large()
    keys = np.random.default_rng(0).integers(0, 3000, ROWS)  # 0 is the key of a missing value
    places: dict[int, list[int]] = {}
    for i, key in enumerate(keys.tolist()):
        places.setdefault(key, []).append(i)
    number = {key: k for k, key in enumerate(places)}
    assert duplicates.numbered(keys).tolist() == [number[key] for key in keys.tolist()]
    expected = [places[key][0] if key else i for i, key in enumerate(keys.tolist())]
    assert (first := duplicates.first_of_each(keys)).tolist() == expected
    assert duplicates.are_first(first).sum() == len(places) - 1 + len(places[0])


def test_choosing_splits_takes_few_bytes_of_memory_for_each_row(large: Any) -> None:
    large()
    n = 100_000
    dice = np.random.default_rng(0)
    columns = {"x": dice.integers(0, n, n).tolist(), "y": dice.integers(0, 3, n).tolist()}
    made = Table(columns, row=spool.kept(np.arange(n)))
    tracemalloc.start()
    chosen = split(made, {"x": "number", "y": "category"}, given=["x"], ask=["y"])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(chosen.train) + len(chosen.val) + len(chosen.test) == n
    assert most < 60 * n  # what one list of Python's numbers takes


def test_seen_rows_of_equal_rows_take_the_parts_in_order() -> None:
    table = Table({"a": ["x", "y", "x", "x", "z"]})
    none = np.zeros(0, dtype=np.int64)
    kept = record(table, {"a": "text"}, ["a"], {"train": np.array([1]), "val": np.array([2]), "test": np.array([0])})
    again = splits_before(Table({"a": ["x", "x", "x", "y", "q"]}), [kept])
    assert again.tolist() == [2, 1, 1, 0, -1]
    assert splits_before(Table({"a": []}), [kept]).tolist() == []
    empty = record(table, {"a": "text"}, ["a"], {"train": none, "val": none, "test": none})
    assert splits_before(table, [empty]).tolist() == [-1] * 5


def test_conventions_of_a_large_table_are_those_of_a_small_one(tmp_path: Path, large: Any) -> None:
    path = tmp_path / "table.csv"
    with path.open("w") as file:
        file.write("size;weight;day;code\n")
        for i in range(6000):
            day = 13 if i == 5999 else 1 + i % 12  # the last row alone tells
            file.write(f"{i % 90 + 1}.{i % 1000:03};{i % 50},5 kg;{day:02}/0{i % 9 + 1}/2024;{i % 7}.{i % 3}0\n")
    small = read(path)
    expected = infer_types(small), conventions(small, infer_types(small), {})
    comma, kilograms = {"decimal": ","}, {"decimal": ",", "unit": "kg"}
    assert expected[1] == {"size": comma, "weight": kilograms, "day": {"order": "dmy"}}
    columns, encoders = fit_columns(small, list(expected[0]), *expected)
    arrays = encode(small, columns, encoders, Ledger())
    large()
    table = read(path)
    assert (infer_types(table), conventions(table, infer_types(table), {})) == expected
    mapped = encode(table, *fit_columns(table, list(expected[0]), *expected), Ledger())
    assert mapped.digest() == arrays.digest() and table.notes == small.notes
    learnt = as_learnt(table, columns, encoders)
    assert list(learnt["weight"])[:3] == [0.5, 1.5, 2.5] and list(learnt["size"])[1] == 2001
