"""A column of names of files that nobody opened is learnt as names, and a person is told so."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
from PIL import Image

from onetrunk.core.registry import column_types
from onetrunk.data.file_names import unopened_files
from onetrunk.data.table import Table, infer_types, read


def notes_of(table: Table) -> list[str]:
    return unopened_files(table, infer_types(table))


def pictures(folder: Path, n: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i}.png")
    return [f"{i}.png" for i in range(n)]


@pytest.mark.parametrize("made_by", [dict, pandas.DataFrame])
@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "image"), ("JPG", "image"), ("wav", "audio"), ("mp3", "audio"), ("mp4", "video")]
)
def test_names_in_memory_are_told_with_the_type_to_name(made_by, suffix, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = read(made_by({"media": [f"some/{i}.{suffix}" for i in range(30)], "label": ["a", "b"] * 15}))
    (note,) = notes_of(table)
    learnt_as = infer_types(table)["media"]
    assert learnt_as != kind
    assert note == (
        f"media: learnt as {learnt_as}, but 30 of the 30 values looked at name files of the type {kind}, for example "
        f"'some/0.{suffix}'. Files that a table in memory names are opened only where you say so: "
        f"--types media={kind} (in Python types={{'media': '{kind}'}}), from the working folder, {tmp_path}, "
        "where 0 of 30 are."
    )


def test_what_the_note_says_to_do_opens_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = read({"photo": pictures(tmp_path, 6), "label": list("ababab")})
    (note,) = notes_of(table)
    assert f"from the working folder, {tmp_path}, where 6 of 6 are." in note
    encoder = column_types.get("image").encoder
    assert infer_types(table, {"photo": "image"})["photo"] == "image"
    assert "unreadable" not in encoder.describe(table["photo"])


def test_a_file_whose_names_point_elsewhere_says_where_they_were_looked_for(tmp_path, monkeypatch):
    names = pictures(tmp_path / "elsewhere", 10)
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "photos.csv"
    path.write_text("photo,label\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names)))
    monkeypatch.chdir(tmp_path / "elsewhere")
    (note,) = notes_of(read(path))
    assert "10 of the 10 values looked at name files of the type image, for example '0.png'." in note
    assert f"looked for in the table's folder, {tmp_path / 'tables'}: 0 of 10 are there." in note
    assert "Put the files there, or write whole paths into the table; or --types photo=image" in note
    assert f"opens them from the working folder, {tmp_path / 'elsewhere'}, where 10 of 10 are." in note

    pictures(tmp_path / "tables", 5)  # half of them: not enough for the column to be one of files
    (note,) = notes_of(read(path))
    assert f"{tmp_path / 'tables'}: 5 of 10 are there." in note

    pictures(tmp_path / "tables", 6)
    table = read(path)
    assert infer_types(table)["photo"] == "image" and notes_of(table) == []


def test_several_tables_are_looked_for_in_the_folder_of_each(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.jsonl").write_text('{"clip": "a.wav"}\n{"clip": "b.wav"}\n')
    (note,) = notes_of(read([tmp_path / "one" / "t.jsonl", tmp_path / "two" / "t.jsonl"]))
    assert f"the table's folder, {tmp_path / 'one'} and {tmp_path / 'two'}: 0 of 4 are there." in note


def test_texts_that_only_end_like_a_name_are_no_files():
    assert notes_of(read({"text": ["Look at a.png"] + [f"a sentence, number {i}." for i in range(20)]})) == []
    assert notes_of(read({"site": [f"example{i}.com" for i in range(20)], "version": ["1.2.png4"] * 20})) == []
    assert notes_of(read({"note": [f"line {i}\nb.png" for i in range(20)], "n": list(range(20))})) == []
    assert notes_of(read({"photo": [None] * 20, "n": list(range(20))})) == []


def test_a_minority_of_names_is_not_told_and_a_majority_is():
    names = [f"{i}.png" for i in range(10)]
    assert notes_of(read({"photo": [*names, *["none"] * 10]})) == []
    (note,) = notes_of(read({"photo": [*names, *["none"] * 9]}))
    assert "10 of the 19 values looked at" in note


def test_names_longer_than_a_file_may_have_are_texts(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("photo\n" + "".join(f"{'x' * 300}{i}.png\n" for i in range(4)))
    (note,) = notes_of(read(path))
    assert f"{tmp_path}: 0 of 4 are there." in note
