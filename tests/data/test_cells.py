"""What the cells of text files are: separators, words for missing values, codes; and their spelling is never lost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.values import BLOCK, Cells, Chain, chain, in_memory, of_present, take, written
from onetrunk.data import spool
from onetrunk.data.table import Table, infer_types, read


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# -- separators --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("sign", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_another_separator_is_found_and_said(tmp_path, sign, word):
    lines = ["name;note;n", '"a;b";has, commas;1', 'c;"two\nlines, too";2']
    table = read(write(tmp_path / "a.csv", "\n".join(line.replace(";", sign) for line in lines)))
    assert table.columns == {"name": [f"a{sign}b", "c"], "note": ["has, commas", "two\nlines, too"], "n": [1, 2]}
    assert any(f"separated by {word}" in note for note in table.notes)


def test_the_separator_of_excel_is_heeded(tmp_path):
    table = read(write(tmp_path / "a.csv", "sep=;\nx;y\n1;a,b\n2;c\n"))
    assert table.columns == {"x": [1, 2], "y": ["a,b", "c"]}


def test_a_separator_can_be_said(tmp_path):
    path = write(tmp_path / "a.csv", "x:y\n1:2\n3:4\n")
    assert read(path).names == ["x:y"]
    assert read(path, separator=":").columns == {"x": [1, 3], "y": [2, 4]}
    assert read(write(tmp_path / "b.csv", "a;b,c\n1;2,3\n"), separator=";").columns == {"a": [1], "b,c": ["2,3"]}


@pytest.mark.parametrize("told", ["||", "", "；", '"', "\n"])
def test_what_cannot_separate_cells_is_refused(tmp_path, told):
    path = write(tmp_path / "a.csv", "x||y\n1||2\n")
    with pytest.raises(UsageError, match="one sign of ASCII"):
        read(path, separator=told)
    with pytest.raises(UsageError, match="one sign of ASCII"):
        read(write(tmp_path / "excel.csv", "sep=；\nx；y\n1；2\n"))


def test_commas_win_where_both_would_do(tmp_path):
    table = read(write(tmp_path / "a.csv", "a;b,c;d\n1;2,3;4\n"))
    assert table.columns == {"a;b": ["1;2"], "c;d": ["3;4"]} and not table.notes


def test_one_column_of_text_stays_one(tmp_path):
    table = read(write(tmp_path / "a.csv", "text\nso; it is\n\nnot | so\n"))
    assert table.columns == {"text": ["so; it is", "not | so"]}


# -- missing values ----------------------------------------------------------------------------------------------------
def test_quoted_words_are_data_and_others_are_missing(tmp_path):
    rows = 'grade,n,day\n"None",1,2024-01-02\nNone,"NA",NA\n"NA",3,"null"\n"mild","",2024-01-05\n"",5,\n'
    table = read(write(tmp_path / "a.csv", rows))
    assert table["grade"] == ["None", None, "NA", "mild", None]
    assert table["n"] == [1, None, 3, None, 5]  # among numbers a word is none
    assert [None if d is None else d.day for d in table["day"]] == [2, None, None, 5, None]


def test_a_table_in_which_everything_is_quoted_has_the_same_numbers(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["x", "y"], [0.5, "a"], ["NA", ""], [1.5, "b"]])
    assert read(tmp_path / "a.csv").columns == {"x": [0.5, None, 1.5], "y": ["a", None, "b"]}


def test_a_frequent_word_that_was_taken_for_missing_is_told(tmp_path):
    cells = ["None", "mild", "severe"] * 30
    path = write(tmp_path / "a.csv", "x,grade\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    table = read(path)
    assert set(table["grade"]) == {None, "mild", "severe"}
    assert any("the word 'None' stands in 30 of 90 cells" in note and "--missing" in note for note in table.notes)
    for missing in ([], ["?"]):
        table = read(path, missing=missing)
        assert table["grade"] == cells and not table.notes
    assert read(path, missing=["mild"])["grade"] == [None if cell == "mild" else cell for cell in cells]


def test_missing_numbers_need_no_telling(tmp_path):
    table = read(write(tmp_path / "a.csv", "x\n" + "1\nNA\n" * 40))
    assert table["x"] == [1, None] * 40 and not table.notes


def test_words_that_are_said_are_missing_in_every_format(tmp_path):
    rows = {"grade": ["-9", "mild", "unknown"]}
    write(tmp_path / "a.csv", 'grade\n-9\n"mild"\n"unknown"\n')
    assert read(tmp_path / "a.csv", missing=["-9", "unknown"]).columns == {"grade": [None, "mild", None]}
    assert read(rows, missing=["-9", "unknown"]).columns == {"grade": [None, "mild", None]}


# -- codes -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "codes",
    [
        [str(89860000000000000000 + i) for i in range(12)],
        ["008.45", "038.11", "250.00", "250.0", "401.9"],
        ["1E5", "10E4", "2E3", "3E1"],
        ["3.1", "3.10", "3.9", "3.90"],
        ["007", "12", "450"],
    ],
)
def test_codes_stay_text_where_numbers_would_lose_anything(tmp_path, codes, monkeypatch):
    cells = codes * 12
    path = write(tmp_path / "a.csv", "code,label\n" + "".join(f"{c},{i % 2}\n" for i, c in enumerate(cells)))
    table = read(path)
    assert table["code"] == cells and infer_types(table)["code"] == "category"
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    assert list(read(path)["code"]) == cells


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i / 100:.2f}" for i in range(300)],  # prices
        ["1", "1.0", "2.5", "2"] * 20,  # two files of numbers, joined
        ["0.0", "-0.0", "0.00", "0.5"] * 20,
        [f"{1.5 * i}" for i in range(150)] + [f"{1.5 * i:.2f}" for i in range(150)],  # of many values, by hand
        ["1e3", "2.5e-3", "7"] * 20,
        [repr(1 / (i + 3)) for i in range(50)],
    ],
)
def test_numbers_stay_numbers(tmp_path, cells):
    table = read(write(tmp_path / "a.csv", "x\n" + "\n".join(cells)))
    assert table["x"] == [float(cell) for cell in cells]


# -- spelling ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("large", [False, True])
def test_cells_keep_their_spelling_beside_their_values(tmp_path, monkeypatch, large):
    path = write(tmp_path / "a.csv", "n,at,yes,word\n1.50,18:00,TRUE,a\n2.25,09:30:00,false,\n,07:05,True,b\n")
    if large:
        monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 0)
    table = read(path)
    values = {"n": [1.5, 2.25, None], "at": ["18:00:00", "09:30:00", "07:05:00"], "yes": [True, False, True]}
    cells = {"n": ["1.50", "2.25", None], "at": ["18:00", "09:30:00", "07:05"], "yes": ["TRUE", "false", "True"]}
    for name, expected in values.items():
        assert list(table[name]) == expected and list(written(table[name])) == cells[name]
    assert list(written(table["word"])) == ["a", None, "b"]
    # Whatever is made of a table keeps them beside each other.
    last = table.take([2, 0])
    assert list(last["n"]) == [None, 1.5] and list(written(last["n"])) == [None, "1.50"]
    assert list(written(of_present(last["n"]))) == ["1.50"] and list(written(take(table["yes"], last.row[1:]))) == [
        "TRUE"
    ]
    both = Table.concat([table, Table({"n": [7, 8]})])
    assert list(both["n"]) == [1.5, 2.25, None, 7, 8] and list(written(both["n"])) == ["1.50", "2.25", None, 7, 8]
    held = table.loaded(["n"])["n"]
    assert isinstance(held, Cells) and list(written(held)) == cells["n"]


def test_files_one_under_the_other_are_read_as_one_file(tmp_path):
    one = write(tmp_path / "a.csv", "x,n\n1.50,1\n2.0,2\n")
    other = write(tmp_path / "b.csv", "x,n\n3.5,3.5\nn/k,4\n")
    whole = write(tmp_path / "c.csv", "x,n\n1.50,1\n2.0,2\n3.5,3.5\nn/k,4\n")
    joined = read([one, other])
    assert joined.columns == read(whole).columns == {"x": ["1.50", "2.0", "3.5", "n/k"], "n": [1, 2, 3.5, 4]}


def test_a_chain_of_plain_lists_has_no_other_spelling():
    assert written(chain([[1], [2]])) == [1, 2] and not isinstance(chain([[1], [2]]), Cells)
    assert list(written(Chain([[1], ["x"]]))) == [1, "x"] and in_memory(Cells([1.5], ["1.50"])) == [1.5]


def test_a_long_table_with_a_quoted_word_is_read_cell_by_cell(tmp_path: Path) -> None:
    """Blocks after the first are slices of Arrow's arrays: all of them hold what the file says."""
    path = tmp_path / "t.csv"
    rows = 3 * BLOCK + 5
    notes = ['"NA"' if i % 7 == 3 else "" if i % 5 == 0 else f"note {i}" for i in range(rows)]
    path.write_text("note,n\n" + "".join(f"{note},{i}\n" for i, note in enumerate(notes)))
    expected = [note.strip('"') or None for note in notes]
    table = read(path)
    assert table["note"] == expected and table["n"] == list(range(rows))
