"""Reading: every format gives the same typed table, and bad input one plain message."""

import datetime
import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.table import Table, infer_types, is_given_split, read, roles

ROWS = {
    "age": [39, None, 53],
    "score": [0.5, 2.25, None],
    "member": [True, False, None],
    "since": [datetime.date(2020, 1, 2), None, datetime.date(2021, 3, 4)],
    "note": ['says "hi", twice', "two\nlines", None],
}
CSV = (
    'age,score,member,since,note\n39,0.5,true,2020-01-02,"says ""hi"", twice"\n'
    'NA,2.25,false,?,"two\nlines"\n53,NaN,,2021-03-04,null\n'
)


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), shade).save(path)
    return path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# -- formats ---------------------------------------------------------------------------------------
def test_csv_is_typed_and_agrees_with_pandas(tmp_path):
    path = write(tmp_path / "a.csv", CSV)
    table = read(path)
    assert table.columns == ROWS
    assert [type(v) for v in table["age"]] == [int, type(None), int]
    frame = pandas.read_csv(path, na_values="?")
    np.testing.assert_array_equal(table.frame()["score"].astype(float), frame["score"])
    assert table.frame()["note"].isna().tolist() == frame["note"].isna().tolist()


def test_every_format_gives_the_same_values(tmp_path):
    simple = {"n": [1, None, 3], "x": [0.5, 1.5, None], "s": ["a", "é 好", None]}
    frame = pandas.DataFrame({k: pandas.Series(v, dtype=object) for k, v in simple.items()})
    arrow = pa.table(simple)
    records = [dict(zip(simple, row, strict=True)) for row in zip(*simple.values(), strict=True)]
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, records)) + "\n\n")
    write(tmp_path / "b.json", json.dumps(records))
    write(tmp_path / "c.json", "\n".join(map(json.dumps, records)))
    parquet.write_table(arrow, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", arrow.schema) as file:
        file.write_table(arrow)
    with pa.ipc.new_stream(tmp_path / "b.arrow", arrow.schema) as file:
        file.write_table(arrow)
    for path in sorted(tmp_path.iterdir()):
        assert read(path).columns == simple, path.name
    for source in (simple, records, frame, str(tmp_path / "a.csv")):
        assert read(source).columns == simple


def test_numpy_and_pandas_scalars_become_python_values():
    frame = pandas.DataFrame(
        {"t": pandas.to_datetime(["2020-01-02 03:04:05", None]), "i": pandas.array([1, None], dtype="Int64")}
    )
    table = read(frame)
    assert table.columns == {"t": [datetime.datetime(2020, 1, 2, 3, 4, 5), None], "i": [1, None]}
    assert type(table["t"][0]) is datetime.datetime
    assert read({"x": np.array([1.0, np.nan], dtype=np.float32)}).columns == {"x": [1.0, None]}


def test_codes_with_leading_zeros_stay_text(tmp_path):
    table = read(write(tmp_path / "a.csv", "stock,n\n000001,10\n600519,0\n"))
    assert table.columns == {"stock": ["000001", "600519"], "n": [10, 0]}


def test_types_hold_beyond_the_first_rows(tmp_path):
    values = [str(i) for i in range(200_000)] + ["twelve"]
    table = read(write(tmp_path / "a.csv", "n\n" + "\n".join(values)))
    assert table["n"] == values


def test_tsv_takes_stray_quotes_as_characters_but_knows_quoted_cells(tmp_path):
    stray = read(write(tmp_path / "a.tsv", 'en\tzh\n"hello\ta\nyes\tb\nbye" she said\tc\n'))
    assert stray.columns == {"en": ['"hello', "yes", 'bye" she said'], "zh": ["a", "b", "c"]}
    assert any("quotation marks" in note for note in stray.notes)
    quoted = read(write(tmp_path / "b.tsv", 'en\tzh\n"two\nlines"\ta\n'))
    assert quoted.columns == {"en": ["two\nlines"], "zh": ["a"]}


def test_text_file_is_one_row(tmp_path):
    assert read(write(tmp_path / "a.txt", "to be\nor not")).columns == {"text": ["to be\nor not"]}


def test_encodings(tmp_path):
    expected = {"评论": ["房间很大，早餐不错", "服务不好"]}
    text = "评论\n房间很大，早餐不错\n服务不好\n"
    assert read(write(tmp_path / "bom.csv", text, "utf-8-sig")).columns == expected
    assert read(write(tmp_path / "16.csv", text, "utf-16")).columns == expected
    chinese = read(write(tmp_path / "gb.csv", text, "gb18030"))
    assert chinese.columns == expected
    assert any("GB 18030" in note for note in chinese.notes)
    with pytest.raises(DataError, match=r"not UTF-8: byte 0xe9 at offset 9 \(line 2\)"):
        read(write(tmp_path / "latin.csv", "name\nAndré Gärtner, Zürich, çà et là\n", "latin-1"))


# -- faults ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.jsonl", b"\n \n", "is empty"),
        ("header.csv", b"a,b\n", "only a header"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "more than once: a"),
        ("ragged.csv", b'a,b\n1,2\n"x\ny",2\n3\n4,5,6\n', r"line 5 has 1; line 6 has 3"),
        ("data.xyz", b"1", r"expected one of \.csv, .*found '.xyz'"),
        ("broken.parquet", b"PAR1 and then nothing", "not a whole Parquet file"),
        ("broken.arrow", b"ARROW1 and then nothing", "not a whole Arrow file"),
        ("cut.csv.gz", gzip.compress(b"a\n1\n" * 99, mtime=0)[:-12], "not a whole gzip file"),
        ("bad.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not valid JSON"),
        ("deep.jsonl", b"[" * 100_000, "line 1 is not valid JSON"),
        ("list.jsonl", b"[1, 2]\n", "line 1: expected an object"),
        ("items.json", b'[{"a": 1}, 2]', "item 1 is '2'"),
        ("keys.jsonl", b'{"a": 1, "a": 2}\n', "more than once: a"),
    ],
)
def test_bad_files_get_one_plain_message(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "train.csv", "a\n1\n")
    with pytest.raises(UsageError, match=r"Did you mean 'train.csv'"):
        read(tmp_path / "trian.csv")


@pytest.mark.parametrize("values", [1, "one", None])
def test_a_column_that_is_no_list_of_values(values):
    with pytest.raises(UsageError, match="expected a list of values"):
        read({"a": values, "b": [1]})


def test_unequal_columns_and_duplicate_frame_columns():
    with pytest.raises(DataError, match="same number of rows"):
        read({"a": [1], "b": [1, 2]})
    with pytest.raises(DataError, match="more than once: a"):
        read(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(UsageError, match="Cannot read a int"):
        read(3)
    with pytest.raises(DataError, match="no rows"):
        read([])


# -- folders ---------------------------------------------------------------------------------------
def test_folder_of_images_by_class(tmp_path):
    a, b = picture(tmp_path / "cat" / "1.png"), picture(tmp_path / "dog" / "deep" / "2.JPG")
    write(tmp_path / "dog" / "notes.txt", "x")
    table = read(tmp_path)
    assert table.columns == {"image": [a, b], "label": ["cat", "dog"]}
    assert any("notes.txt" in note for note in table.notes)


def test_folder_of_parts_of_images(tmp_path):
    for part, n in (("test", 1), ("training", 2), ("dev", 1)):
        for i in range(n):
            picture(tmp_path / part / "x" / f"{i}.png")
    table = read(tmp_path)
    assert table["split"] == ["train", "train", "val", "test"]
    assert table["label"] == ["x"] * 4


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_folder_with_metadata(tmp_path, name):
    picture(tmp_path / "pics" / "1.png")
    frame = pandas.DataFrame({"file_name": ["pics/1.png", "pics/gone.png"], "sex": ["f", "m"]})
    if name.endswith("csv"):
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.to_json(tmp_path / name, orient="records", lines=True)
    # A file that is missing among good ones is the encoder's to quarantine, not the reader's to refuse.
    paths = [tmp_path / "pics/1.png", tmp_path / "pics/gone.png"]
    assert read(tmp_path).columns == {"image": paths, "sex": ["f", "m"]}


def test_folder_of_part_tables(tmp_path):
    write(tmp_path / "train.csv", "a,b\n1,x\n2,y\n")
    write(tmp_path / "valid.csv", "a\n3\n")
    write(tmp_path / "test-00000-of-00002.csv", "a,b\n4,z\n")
    write(tmp_path / "test-00001-of-00002.csv", "a,b\n5,z\n")
    write(tmp_path / "other.csv", "q\n1\n")
    table = read(tmp_path)
    assert table.columns == {
        "a": [1, 2, 3, 4, 5],
        "b": ["x", "y", None, "z", "z"],
        "split": ["train", "train", "val", "test", "test"],
    }
    assert table.row.tolist() == [0, 1, 2, 3, 4]
    assert any("left other.csv" in note for note in table.notes)


def test_folders_that_cannot_be_understood(tmp_path):
    with pytest.raises(DataError, match="neither a table"):
        read(tmp_path)
    write(tmp_path / "a.csv", "a\n1\n")
    assert read(tmp_path)["a"] == [1]
    write(tmp_path / "b.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"several tables \(a.csv, b.csv\)"):
        read(tmp_path)
    write(tmp_path / "train.csv", "a\n1\n")
    write(tmp_path / "test.jsonl", '{"a": 1}')
    with pytest.raises(DataError, match="several formats"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(s, "audio") for s in ("wav", "FLAC", "ogg", "mp3", "opus", "m4a", "aiff")]
    + [(s, "video") for s in ("mp4", "webm", "mkv", "mov", "avi", "mpg")],
)
def test_files_of_sound_and_film_are_taken_for_that(tmp_path, suffix, kind):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / f"1.{suffix}").write_bytes(b"whatever")
    table = read(tmp_path)
    assert infer_types(table) == {kind: kind, "label": "category"}


def test_strings_that_name_files_beside_the_table_become_paths(tmp_path):
    path = picture(tmp_path / "i" / "1.png")
    table = read(write(tmp_path / "a.csv", "pic,site\ni/1.png,example.com\n,a.png or not\n"))
    assert table["pic"] == [path, None]
    assert table["site"] == ["example.com", "a.png or not"]
    assert read({"pic": [str(path)]})["pic"] == [str(path)]  # rows in memory may come from a request


# -- Hugging Face ----------------------------------------------------------------------------------
def test_hugging_face_objects():
    datasets = pytest.importorskip("datasets")
    place = io.BytesIO()
    Image.new("L", (2, 2)).save(place, format="PNG")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "tags": datasets.List(datasets.ClassLabel(names=["small", "big"])),
        }
    )
    rows = {
        "image": [{"bytes": place.getvalue(), "path": None}] * 3,
        "label": [0, 1, -1],
        "tags": [[0, 1], [], [1]],
    }
    dataset = datasets.Dataset.from_dict(rows, features=features)
    table = read(dataset.select([2, 1, 0]))  # an index mapping is respected
    assert table["label"] == [None, "dog", "cat"]
    assert table["tags"] == [["big"], [], ["small", "big"]]
    assert table["image"][0] == {"bytes": place.getvalue(), "path": None}
    both = read(datasets.DatasetDict({"train": dataset, "validation": dataset.select([0])}))
    assert both["split"] == ["train"] * 3 + ["val"]


def test_hub_names_do_not_reach_for_the_network(monkeypatch):
    pytest.importorskip("datasets")
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError, match="only with --allow-network"):
        read("hf://onetrunk-nobody/no-such-dataset")


# -- the table -------------------------------------------------------------------------------------
def test_table_operations():
    table = Table({"a": [1, 2, 3], "b": ["x", None, "z"]}, "t")
    assert len(table) == 3
    taken = table.take([2, 0])
    assert (taken["a"], taken.row.tolist()) == ([3, 1], [2, 0])
    assert table.take(np.array([True, False, True]))["b"] == ["x", "z"]
    assert taken.take([0]).row.tolist() == [2]
    assert table.without(["a"]).names == ["b"]
    assert table.rename({"b": "c"}).names == ["a", "c"]
    joined = Table.concat([taken, table.without(["b"])])
    assert joined.columns == {"a": [3, 1, 1, 2, 3], "b": ["z", "x", None, None, None]}
    assert joined.row.tolist() == [2, 0, 0, 1, 2]
    with pytest.raises(UsageError, match="two columns the name 'a'"):
        table.rename({"b": "a"})
    with pytest.raises(UsageError, match=r"Unknown column 'lable'. Did you mean 'label'"):
        read({"label": [1]}, columns=["lable"])


def test_several_tables_are_one_under_the_other(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("x,z\n3,w\n", encoding="utf-8")
    expected = {"x": [1, 3], "y": [2, None], "z": [None, "w"]}
    table = read(f"{tmp_path}/a.csv,{tmp_path}/b.csv")
    assert table.columns == expected and table.source == f"{tmp_path}/a.csv + {tmp_path}/b.csv"
    assert read([tmp_path / "a.csv", tmp_path / "b.csv"]).columns == expected
    (tmp_path / "a.csv,b.csv").write_text("q\n1\n", encoding="utf-8")
    assert read(f"{tmp_path}/a.csv,b.csv").columns == {"q": [1]}  # a file of that name goes before
    with pytest.raises(UsageError, match=r"no file or folder .*bb.csv. Did you mean 'b.csv'"):
        read(f"{tmp_path}/a.csv,{tmp_path}/bb.csv")
    with pytest.raises(UsageError, match="no file or folder"):  # nothing is not the folder one stands in
        read(f"{tmp_path}/a.csv,")


# -- types -----------------------------------------------------------------------------------------
class _Whole:
    @classmethod
    def recognise(cls, values):
        return float(all(isinstance(v, int) for v in values))


class _Half:
    @classmethod
    def recognise(cls, values):
        return 0.5 * float(not any(isinstance(v, bytes) for v in values))


@pytest.fixture
def fake_types(monkeypatch):
    types = {"half": _Half, "later": _Half, "whole": _Whole}
    known = {name: SimpleNamespace(encoder=encoder) for name, encoder in types.items()}
    monkeypatch.setattr(column_types, "names", lambda: sorted(known))
    monkeypatch.setattr(column_types, "modules", lambda: dict.fromkeys(known, ""))
    get = column_types.get
    monkeypatch.setattr(column_types, "get", lambda name: known[name] if name in known else get(name))


def test_types_are_those_that_recognise_best(fake_types):
    table = Table({"n": [1, None, 2], "s": ["a", "b", "c"], "none": [None] * 3, "b": [b"x", None, None]})
    assert infer_types(table) == {"n": "whole", "s": "half"}
    assert any("'none' has no values" in note for note in table.notes)
    assert any("recognises 'b'" in note for note in table.notes)
    assert infer_types(table, {"n": "later"})["n"] == "later"
    with pytest.raises(UsageError, match=r"Unknown column type 'wole'. Did you mean 'whole'"):
        infer_types(table, {"n": "wole"})
    with pytest.raises(UsageError, match="Unknown column 'm'"):
        infer_types(table, {"m": "whole"})


# -- roles -----------------------------------------------------------------------------------------
def roles_of(columns, ask=("y",), **kwargs):
    return roles(Table(columns), dict.fromkeys(columns, "number"), ask, **kwargs)


def test_ids_constants_and_leaks_are_left_out_and_said():
    n = 60
    y = [i % 2 for i in range(n)]
    columns = {
        "y": y,
        "row": list(range(1, n + 1)),
        "patient_id": [1000 + 7 * i for i in range(n)],
        "userId": [f"u{i}" for i in range(n)],
        "hash": [f"{i:032x}" for i in range(n)],
        "where": ["here"] * n,
        "copy": ["yes" if v else "no" for v in y],
        "stage": [v + 2 * (i % 3 == 0) * v for i, v in enumerate(y)],
        "split": (["train"] * 9 + ["validation"]) * 6,
        "name": [f"name{i}" for i in range(n)],
        "humid": [3 * i for i in range(n)],
        "age": [i // 3 for i in range(n)],
        "sparse": ["x" if i % 3 else None for i in range(n)],
    }
    given, ask, reasons = roles_of(columns)
    assert given == ["name", "humid", "age", "sparse"]
    assert ask == ["y"]
    for name, word in {
        "row": "id",
        "patient_id": "id",
        "userId": "id",
        "hash": "id",
        "where": "constant",
        "copy": "leak",
        "stage": "leak",
        "split": "split",
    }.items():
        assert word in reasons[name], name
    assert set(reasons) == set(columns) - set(given) - {"y"}
    assert roles_of(columns, given=["copy", "row"])[0] == ["copy", "row"]
    assert roles_of(columns, ask=["copy"])[2].keys() == {*reasons, "y"} - {"copy"}
    assert "name" not in roles_of(columns, ignore=["name"])[0]


@pytest.mark.parametrize(
    "name", ["", "Unnamed: 0", "Unnamed: 0.1", "column 1", "level_0", "__index_level_0__", "...1", "index", "rownames"]
)
@pytest.mark.parametrize("how", ["whole", "from one", "joined", "shuffled", "joined and shuffled", "with gaps"])
def test_the_index_that_programs_write_beside_a_table_is_left_out(name, how):
    shuffled = [(37 * i) % 101 for i in range(60)]
    numbers = {
        "whole": list(range(60)),
        "from one": list(range(1, 61)),
        "joined": [*range(30), *range(20), *range(10)],
        "shuffled": shuffled,
        "joined and shuffled": [*shuffled[:40], *shuffled[:20]],
        "with gaps": [*range(40), *[None] * 20],
    }[how]
    y = [int(i < 30) for i in range(60)]
    if how == "joined and shuffled" and name in ("index", "rownames"):
        pytest.skip("words that may name other numbers")
    given, _, reasons = roles_of({"y": y, name: numbers, "x": [i % 7 for i in range(60)]})
    assert given == ["x"] and "numbers of the rows" in reasons[name]


def test_columns_that_are_only_called_like_an_index_are_given():
    y = [i % 2 for i in range(60)]
    columns = {"y": y, "index": [i % 3 + (i == 7) for i in range(60)], "column 1": [i * 0.5 for i in range(60)]}
    assert roles_of(columns)[0] == ["index", "column 1"]


def test_a_copy_of_many_numbers_leaks_but_a_one_to_one_text_does_not():
    y = [i * 0.37 for i in range(40)]
    twin = [f"line {i}" for i in range(40)]  # a translation: one to one because every value is new
    given, _, reasons = roles_of({"y": y, "same": list(y), "near": [v + (i == 7) for i, v in enumerate(y)], "en": twin})
    assert given == ["near", "en"]
    assert "copy" in reasons["same"]


def test_roles_refuse_unknown_and_double_names():
    columns = {"y": [0, 1, 0], "x": ["a", "b", "b"]}
    with pytest.raises(UsageError, match="Unknown column 'z'"):
        roles_of(columns, ask=["z"])
    with pytest.raises(UsageError, match="Unknown column 'w'"):
        roles_of(columns, given=["w"])
    with pytest.raises(UsageError, match="Unknown column 'w'"):
        roles_of(columns, ignore=["w"])
    with pytest.raises(UsageError, match="'y' is both asked and given"):
        roles_of(columns, given=["y"])
    with pytest.raises(UsageError, match="'y' is both asked and ignored"):
        roles_of(columns, ignore=["y"])
    with pytest.raises(UsageError, match="Nothing is left to be given"):
        roles_of({"y": [0, 1, 0], "x": ["a", "a", "a"]})
    alone = {"y": [0, 1, 0], "split": ["train", "train", "val"]}
    assert roles_of({"y": alone["y"]})[:2] == roles_of(alone)[:2] == ([], ["y"])
    with pytest.raises(DataError, match="'y' has no values"):
        roles(Table({"y": [None], "x": [1]}), {"x": "any"}, ["y"])
    assert roles_of(columns, ask=())[0] == ["y", "x"]


def test_only_a_column_of_part_names_is_the_given_split():
    assert is_given_split("split", ["train", "Val", "test"])
    assert not is_given_split("split", ["train", "banana"])
    assert not is_given_split("part", ["train", "val"])
    assert not is_given_split("split", [None, None])


def test_half_of_a_surrogate_pair_is_replaced_and_told(tmp_path: Path) -> None:
    """JSON and Python can hold it, UTF-8 cannot: no file of a model could be written."""
    rows = [{"text": "a \ud800", "n\udc00": 1, "tags": ["x", {"\ud800": "y"}]}, {"text": "good 😀", "tags": [1.5]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    for source in (rows, tmp_path / "rows.jsonl", tmp_path / "rows.json"):
        table = read(source)
        assert table["text"] == ["a \ufffd", "good 😀"] and table["n\ufffd"] == [1, None]
        assert table["tags"] == [["x", {"\ufffd": "y"}], [1.5]]
        assert [note for note in table.notes if note.startswith("2 cells hold half of a surrogate pair")]
