"""Inspection counts what pandas counts, finds what was planted, and says it in words; the ledger adds up."""

import datetime
import importlib
import io
import json

import numpy as np
import pandas
import pytest
from PIL import Image
from rich.console import Console

from onetrunk.core.content import Content
from onetrunk.core.errors import BadValueError, DataError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.inspection import in_words, inspect
from onetrunk.data.ledger import Ledger
from onetrunk.data.split import split
from onetrunk.data.table import Table, infer_types, left_out


def reviews(n=60):
    """Distinct reviews with planted faults: 58 repeats 3, 59 nearly 4, 57 contradicts 5, 7 lacks its text."""
    words = ["clean", "noisy", "kind", "far", "cheap", "warm", "small"]
    text = [f"The {words[i % 7]} room {i} was {words[(i // 7) % 7]}, we thought" for i in range(n)]
    label = [["good", "bad"][i % 2] for i in range(n)]
    text[58], label[58] = text[3], label[3]
    text[59] = "the " + text[4][4:].upper() + "!!"
    text[57], label[57] = text[5], "good"
    text[7] = None
    stars = [None if i % 10 == 0 else i % 9 + 0.5 for i in range(n)]
    when = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i) for i in range(n)]
    when[58], when[59], when[57] = when[3], when[4], when[5]
    stars[58], stars[59], stars[57] = stars[3], stars[4], stars[5]
    return Table({"text": text, "label": label, "stars": stars, "when": when, "id": list(range(n))})


def printed(result):
    console = Console(width=140, record=True, file=io.StringIO())
    result.show(console)
    return console.export_text()


def test_columns_agree_with_pandas():
    table = reviews()
    inspection = inspect(table, infer_types(table), ["label"])
    frame = pandas.DataFrame(table.columns)
    for column in inspection.columns:
        assert column.missing == frame[column.name].isna().sum()
        assert column.distinct == frame[column.name].nunique()
        assert column.present + column.missing == len(table)
    label = next(c for c in inspection.columns if c.name == "label")
    assert label.role == "asked"
    assert label.balance == frame["label"].value_counts().to_dict()
    assert "id" in next(c for c in inspection.columns if c.name == "id").role


def test_planted_repeats_are_found():
    table = reviews()
    inspection = inspect(table, infer_types(table), ["label"])
    assert (inspection.duplicates.rows, inspection.duplicates.examples) == (1, [(58, 3)])
    assert (inspection.equal.rows, inspection.contradicting) == (2, 1)
    assert (inspection.near.rows, inspection.near.examples) == (1, [(59, 4)])
    clean = table.take(np.arange(57))
    inspection = inspect(clean, infer_types(clean), ["label"])
    assert inspection.duplicates.rows == inspection.equal.rows == inspection.near.rows == inspection.contradicting == 0


def test_nearly_equal_rows_are_alike_in_every_text():
    spellings = ["A b!", "a-B", "ab", "c", "C.", "", "?", "é", "É"]
    generator = np.random.default_rng(0)
    columns = {name: [spellings[i] for i in generator.integers(0, 9, 150)] for name in "xyz"}
    table = Table({**columns, "n": [float(i) for i in range(150)]})
    plain = [
        tuple("".join(filter(str.isalnum, text.lower())) for text in row) for row in zip(*columns.values(), strict=True)
    ]
    expected = [(i, plain.index(row)) for i, row in enumerate(plain) if any(row) and plain.index(row) < i]
    inspection = inspect(table, {**dict.fromkeys("xyz", "text"), "n": "number"})
    assert (inspection.near.rows, inspection.near.examples) == (len(expected), expected[:5]) and len(expected) > 10


def test_rows_across_the_split_are_counted():
    table = reviews()
    types = infer_types(table)
    table.columns["split"] = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    given = [name for name in types if name not in left_out(table, types, ["label"]) and name != "label"]
    made = split(table, types, given=given, ask=["label"], allow_equal_rows=True)
    inspection = inspect(table, types, ["label"], made)
    assert inspection.equal.across_splits == made.equal_across == 2
    assert inspection.near.across_splits == 1
    assert inspection.split["rows"] == {"train": 40, "val": 10, "test": 10}
    assert sum("in another split" in w for w in inspection.warnings()) == 2


def test_pictures_repeat_by_their_pixels(tmp_path):
    shades = np.random.default_rng(0).integers(0, 255, (4, 16, 16), dtype=np.uint8)
    shades[3] = shades[1]
    paths = []
    for i, shade in enumerate(shades):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(shade).save(paths[-1], compress_level=i)
    table = Table({"pic": paths, "y": ["a", "b", "a", "b"]})
    inspection = inspect(table, infer_types(table), ["y"])
    assert inspection.duplicates.examples == [(3, 1)]


def test_what_training_would_lose():
    class Short:
        unit = ""

        @staticmethod
        def plain(values):
            return values

        @staticmethod
        def encode_all(values, bad):
            present = np.array([v is not None for v in values])
            for i, v in enumerate(values):
                if v is not None and "far" in v:
                    present[i] = False
                    bad(i, "too far")
            lens = np.array([len(v) for v, p in zip(values, present, strict=True) if p])
            return Content({"id": np.zeros(lens.sum())}, lens), present

        @staticmethod
        def dropped(content):
            return {"unknown characters": 3}

        @staticmethod
        def max_positions(content):
            return content.lens

    table = reviews().take(np.arange(20)[::-1])  # row numbers are the source's, whatever the order
    context = 38
    inspection = inspect(table, infer_types(table), ["label"], context=context, prepared={"text": Short})
    texts = {int(r): t for r, t in zip(table.row, table["text"], strict=True) if t is not None}
    far = [r for r, t in texts.items() if "far" in t]
    longer = [r for r, t in texts.items() if "far" not in t and len(t) > context]
    assert far and longer
    lost = {e["reason"]: e for e in inspection.lost}
    assert (lost["too far"]["count"], lost["too far"]["rows"]) == (len(far), far[:5])
    assert lost["too far"]["bad"]
    cut = lost[f"longer than a sequence of {context} positions"]
    assert (cut["count"], cut["rows"]) == (len(longer), longer[:5])
    assert lost["unknown characters"]["count"] == 3


def test_it_is_json_and_readable():
    table = reviews()
    table.columns["markup"] = ["[bold]not markup[/bold]", "[/]"] * 30
    inspection = inspect(table, infer_types(table), ["label"])
    assert json.loads(json.dumps(inspection.as_json()))["rows"] == 60
    text = printed(inspection)
    assert "60 rows, 6 columns" in text
    assert "[bold]not markup[/bold]" in text
    assert "(row 58 = row 3, …)" in text
    for line in inspection.warnings():
        assert line.split(":")[0][:30] in text
    for kind in {c.type for c in inspection.columns}:
        meaning = importlib.import_module(column_types.get(kind).module_name).__doc__.strip().splitlines()[0]
        assert meaning[:40] in text


def test_it_refuses_unknown_columns_and_looks_at_id_only_tables():
    table = Table({"id": list(range(30))})
    types = infer_types(table)
    assert "id" in inspect(table, types).columns[0].role
    with pytest.raises(UsageError, match="Unknown column 'lable'"):
        inspect(table, types, ["lable"])


def test_summaries_in_words():
    assert in_words({"min": 1, "mean": 1234.5678, "samples": ["x"]}) == "min 1, mean 1235"
    assert in_words({"classes": 2, "counts": {"no": 3, "yes": 1}}) == "classes: 2; counts: no 3, yes 1"
    assert in_words({"classes": 3, "counts": {"a": 12000, "b": 2, "c": 1}}, 2) == "classes: 3; counts: a 12,000, b 2, …"
    assert in_words({"words": ["a", "b", "c"], "whole": True}, 2) == "words: a, b, …; whole: yes"
    assert in_words({"min": 1998, "mean": 2015.0, "max": 10000}) == "min 1998, mean 2015, max 10,000", (
        "years are no sums"
    )


def test_it_fits_in_80_columns_and_shows_names_whole():
    table = reviews()
    table.columns["a_name_of_20_letters"] = [f"c{i % 30}" for i in range(60)]
    console = Console(width=80, record=True, file=io.StringIO())
    inspect(table, infer_types(table), ["label"]).show(console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    for name in table.names:
        assert any(line.startswith(name) for line in lines), name
    assert len(lines) < 12 * len(table.names)


# -- the ledger ------------------------------------------------------------------------------------
def test_ledger_adds_up_and_merges():
    one, two = Ledger(), Ledger()
    for row in range(7):
        one.add("unreadable", "pic", row, bad=True)
    one.add("cut to 64 tokens", "text", 3, n=12)
    for row in range(100, 103):
        two.add("unreadable", "pic", row, bad=True)
    two.add("cut to 64 tokens", "text", 50)
    one.merge(two)
    assert one.as_json() == [
        {"column": "pic", "reason": "unreadable", "count": 10, "bad": True, "rows": [0, 1, 2, 3, 4]},
        {"column": "text", "reason": "cut to 64 tokens", "count": 13, "bad": False, "rows": [3, 50]},
    ]
    assert one.lines() == [
        "text: 13 × cut to 64 tokens (rows 3, 50, …)",
        "pic: 10 × unreadable (rows 0, 1, 2, 3, 4, …)",
    ]
    assert one.bad() == one.bad("pic") == 10


def test_ledger_stops_above_the_threshold_only():
    ledger = Ledger()
    for row in range(3):
        ledger.add("unreadable", "pic", row, bad=True)
    ledger.add("cut", "text", n=99)
    ledger.check(300)
    ledger.check(100, threshold=0.03)
    with pytest.raises(DataError, match=r"3 of 100 values of the column 'pic'.*--max-bad 0.03") as caught:
        ledger.check(100)
    assert "rows 0, 1, 2" in str(caught.value)


def test_reasons_that_quote_values_do_not_fill_the_ledger():
    ledger = Ledger()
    for row in range(500):
        ledger.add(str(BadValueError(f"no number: {row}")), "n", row, bad=True)
    assert len(ledger) <= 21
    assert ledger.bad("n") == 500
    copy = Ledger()
    copy.merge(ledger)
    assert copy.as_json() == ledger.as_json()


def test_names_and_values_are_shown_literally() -> None:
    table = Table({"CRP [mg/l] \x1b[2J": ["[/i]", "[bold]x", "\x1b]0;t\x07", "plain"] * 5, "label": ["[/]", "b"] * 10})
    text = printed(inspect(table, infer_types(table), ["label"]))
    for literally in ("CRP [mg/l] \\x1b[2J", "[/i]", "[bold]x", "\\x1b]0;t\\x07", "[/]"):
        assert literally.replace(" ", "") in "".join(text.split())
    assert "\x1b" not in text and "\x07" not in text
