"""Formats of other programs: the same table as from plain rows, or one plain message that says what to do."""

import datetime
import json
import sqlite3

import numpy as np
import pandas
import pyarrow as pa
import pytest
from pyarrow import parquet

from onetrunk.core.errors import DataError, UsageError
from onetrunk.data import spool
from onetrunk.data.table import read

ROWS = {"n": [1, 2, None], "x": [0.5, None, 2.25], "word": ["a", "é 好", None], "yes": [True, False, True]}
FRAME = pandas.DataFrame({name: pandas.Series(values, dtype=object) for name, values in ROWS.items()})

CHINESE = "评论,标签\n房间很大，早餐不错,好\n服务不好，再也不来了,差\n"
KOREAN = "리뷰,라벨\n방이 조용하고 좋았어요,좋음\n직원이 불친절했습니다,나쁨\n"
JAPANESE = "品名,分類\nりんごジュース,食品\n綿のシャツ,衣類\n"
STAY = "text,label\n部屋はきれいで静かでした,x\n朝ごはんがおいしい,y\n"  # as CP949 odd Hangul
LAUGHTER = "text,label\n웹툰 봤어요 ㅋㅋㅋ,x\n좋아요,y\n"
PLACES = "品名,分類\n東京都新宿区,食品\n大阪市北区,衣類\n京都市左京区,食品\n"


# -- encodings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (CHINESE, "gbk"),
        (CHINESE, "gb18030"),
        (KOREAN, "cp949"),
        (KOREAN, "euc_kr"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "shift_jis"),
        (STAY, "cp932"),
        (LAUGHTER, "cp949"),
        (PLACES, "euc_jp"),
    ],
)
def test_older_encodings_of_east_asia_are_read_right_and_said(tmp_path, text, codec):
    (tmp_path / "a.csv").write_bytes(text.encode(codec))
    (tmp_path / "b.csv").write_text(text, encoding="utf-8")
    table = read(tmp_path / "a.csv")
    assert table.columns == read(tmp_path / "b.csv").columns
    assert any("is not UTF-8" in note and "it was read as" in note for note in table.notes)


@pytest.mark.parametrize("codec", ["big5", "cp1251", "latin-1", "euc_jp"])
def test_encodings_that_are_not_known_are_refused_rather_than_read_as_nonsense(tmp_path, codec):
    text = {"big5": "評論,標籤\n房間很大早餐不錯,好\n", "cp1251": "отзыв,класс\nномер большой,да\n",
            "euc_jp": "name,label\n田中,x\n"}  # fmt: skip
    (tmp_path / "a.csv").write_bytes(text.get(codec, "Straße,Größe\nMünchen,groß\n").encode(codec))
    with pytest.raises(DataError, match="is not UTF-8"):
        read(tmp_path / "a.csv")


# -- JSON as pandas writes it ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("orient", ["columns", "index", "split", "table", "records"])
@pytest.mark.parametrize("index", [None, [5, 9, 2]])
def test_json_of_every_orient_of_pandas(tmp_path, orient, index):
    frame = FRAME if index is None else FRAME.set_axis(index)
    frame.to_json(tmp_path / "a.json", orient=orient)
    assert read(tmp_path / "a.json").columns == ROWS
    (tmp_path / "pretty.json").write_text(json.dumps(json.loads((tmp_path / "a.json").read_text()), indent=2))
    assert read(tmp_path / "pretty.json").columns == ROWS


def test_json_that_does_not_tell_rows_from_columns_is_refused(tmp_path):
    FRAME.set_axis(["anna", "ben", "cem"]).to_json(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"do not tell rows from columns.*orient='records'"):
        read(tmp_path / "a.json")
    FRAME.to_json(tmp_path / "b.json", orient="values")
    with pytest.raises(DataError, match=r"no names for its columns.*orient='records'"):
        read(tmp_path / "b.json")


def test_json_of_one_row_stays_one_row(tmp_path):
    row = {"age": 3, "tags": ["a"], "steps": {"skill": [1, 2], "right": [0, 1]}}
    for name, text in (
        ("a.json", json.dumps(row)),
        ("b.json", json.dumps(row, indent=1)),
        ("c.jsonl", json.dumps(row)),
    ):
        (tmp_path / name).write_text(text)
        assert read(tmp_path / name).columns == {key: [value] for key, value in row.items()}


# -- tables that a program holds ---------------------------------------------------------------------------------------
class Stream:
    """Has nothing but Arrow's stream."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_tables_with_arrows_stream():
    table = pa.table(ROWS | {"kind": pa.array(["p", "q", "p"]).dictionary_encode()})
    expected = ROWS | {"kind": ["p", "q", "p"]}
    assert read(table).columns == expected
    assert read(Stream(table)).columns == expected
    with pytest.raises(DataError, match="not a table"):
        read(pa.chunked_array([[1, 2]]))


def test_polars_tables():
    polars = pytest.importorskip("polars")
    day = [datetime.date(2024, 1, 2), None, datetime.date(2024, 3, 4)]
    frame = polars.DataFrame(ROWS | {"day": day, "tags": [["a"], [], None]})
    frame = frame.with_columns(kind=polars.Series(["p", "q", "p"], dtype=polars.Categorical))
    assert read(frame).columns == ROWS | {"day": day, "tags": [["a"], [], None], "kind": ["p", "q", "p"]}


def test_numpy_arrays():
    assert read(np.array([[1, 2], [3, 4]])).columns == {"0": [1, 3], "1": [2, 4]}
    fields = np.array([(1, 0.5, "a"), (2, np.nan, "b")], dtype=[("n", int), ("x", float), ("s", "U3")])
    assert read(fields).columns == {"n": [1, 2], "x": [0.5, None], "s": ["a", "b"]}
    with pytest.raises(UsageError, match=r"shape \[2, 3, 4\] is no table.*Name what is in it"):
        read(np.zeros((2, 3, 4)))


def test_streams_of_hugging_face():
    datasets = pytest.importorskip("datasets")
    rows = {"x": [1, 2, 3], "label": [0, 1, -1]}
    features = datasets.Features({"x": datasets.Value("int64"), "label": datasets.ClassLabel(names=["cat", "dog"])})
    dataset = datasets.Dataset.from_dict(rows, features=features)
    expected = {"x": [1, 2, 3], "label": ["cat", "dog", None]}
    assert read(dataset.to_iterable_dataset()).columns == expected
    assert read(dataset.to_iterable_dataset().filter(lambda row: row["x"] > 1)).columns["x"] == [2, 3]
    made = datasets.IterableDataset.from_generator(lambda: iter([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]))
    assert read(made).columns == {"a": [1, 2], "b": ["x", "y"]}


def test_what_is_no_table_gets_an_error_that_names_what_is():
    for source in (3, object(), iter([{"a": 1}]), {1, 2}):
        with pytest.raises(UsageError, match="expected a path, a DataFrame, a table of Arrow's kind"):
            read(source)


# -- workbooks and databases -------------------------------------------------------------------------------------------
def test_workbooks(tmp_path):
    pytest.importorskip("python_calamine")
    pytest.importorskip("openpyxl")
    day, moment = datetime.date(2024, 1, 31), datetime.datetime(2024, 1, 31, 13, 5)
    rows = ROWS | {"day": [day, None, day], "at": [moment, moment, None], "no": ["007", "010", None]}
    frame = pandas.DataFrame({name: pandas.Series(values, dtype=object) for name, values in rows.items()})
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    assert read(tmp_path / "a.xlsx").columns == rows
    with pandas.ExcelWriter(tmp_path / "b.xlsx") as writer:
        frame.to_excel(writer, sheet_name="people", index=False)
        FRAME.to_excel(writer, sheet_name="more")
    with pytest.raises(DataError, match=r"several sheets: people, more. Name one, like b.xlsx:people"):
        read(tmp_path / "b.xlsx")
    assert read(f"{tmp_path}/b.xlsx:people").columns == rows
    assert read(f"{tmp_path}/b.xlsx:more").columns == {"column 1": [0, 1, 2], **ROWS}
    with pytest.raises(DataError, match=r"has no 'peple'. Did you mean 'people'"):
        read(f"{tmp_path}/b.xlsx:peple")
    (tmp_path / "c.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="not a whole workbook"):
        read(tmp_path / "c.xlsx")


def sqlite_file(path, tables):
    connection = sqlite3.connect(path)
    for name, rows in tables.items():
        quoted = name.replace('"', '""')
        connection.execute(f'CREATE TABLE "{quoted}" ({", ".join(rows)})')
        values = zip(*rows.values(), strict=True)
        connection.executemany(f'INSERT INTO "{quoted}" VALUES ({", ".join("?" * len(rows))})', values)
    connection.commit()
    connection.close()
    return path


def test_databases(tmp_path, monkeypatch):
    rows = {"n": [1, 2, None], "x": [0.5, None, 2.25], "word": ["a", "é 好", None], "picture": [b"\xff", None, b""]}
    one = sqlite_file(tmp_path / "a.db", {"people": rows})
    assert read(one).columns == rows
    two = sqlite_file(tmp_path / "b.sqlite", {"people": rows, 'odd "name"': {"y": [1]}})
    with pytest.raises(DataError, match=r"several tables: people, .*Name one, like b.sqlite:people"):
        read(two)
    assert read(f'{two}:odd "name"').columns == {"y": [1]}
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)  # as if it were large
    assert {name: list(values) for name, values in read(one).columns.items()} == rows
    (tmp_path / "c.db").write_bytes(b"SQLite format 3\x00 and no more")
    with pytest.raises(DataError, match="not a whole SQLite database"):
        read(tmp_path / "c.db")


@pytest.mark.parametrize(
    "kind", [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", "UTC")]
)
def test_moments_are_what_arrow_says_they_are(tmp_path, kind):
    moments = pa.array(["1900-02-28", None, "2024-02-29", "1969-12-31"]).cast(pa.timestamp("s")).cast(kind)
    parquet.write_table(pa.table({"when": moments}), tmp_path / "a.parquet")
    exact = moments.cast(pa.timestamp("us", kind.tz)) if pa.types.is_timestamp(kind) else moments
    assert read(tmp_path / "a.parquet")["when"] == exact.to_pylist()


def test_days_that_python_cannot_hold_are_text(tmp_path):
    days = pa.array([0, None, 4_000_000, -800_000], pa.int32()).cast(pa.date32())
    parquet.write_table(pa.table({"when": days, "n": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    read_back = read(tmp_path / "a.parquet")["when"]
    assert read_back[:2] == [datetime.date(1970, 1, 1), None] and all(isinstance(v, str) for v in read_back[2:])
