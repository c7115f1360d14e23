"""From a table as people write them to answers: how it is written is found, said, kept in the folder, and held to."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

import onetrunk
from onetrunk.core.errors import DataError
from onetrunk.inference.model_folder import load

FAST = ["finetune.steps=3", "train.precision=fp32", "train.compile=false", "finetune.wide=false"]
N = 120


def row(i: int) -> dict[str, str]:
    day = datetime.date(2023, 1, 1) + datetime.timedelta(days=i)
    return {
        "": str((37 * i) % 401),
        "weight": f"{i % 17 / 4 + 0.25:.2f} kg".replace(".", ","),
        "price": f"{1 + i % 13}.{i % 10}50,0",
        "day": day.strftime("%d/%m/%Y"),
        "fresh": "true" if i % 3 else "false",
        "grade": ["None", "mild", "bad"][i // 4 % 3],
        "cost": f"${1 + i % 23}",
    }


def table(path: Path, rows: list[dict[str, str]], **more: str) -> Path:
    lines = [";".join(rows[0])] + [";".join(f'"{v}"' if k == "grade" else v for k, v in r.items()) for r in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("reading")
    data = table(folder / "train.csv", [row(i) for i in range(N)])
    for ask in ("fresh", "cost"):
        onetrunk.finetune(str(data), ask=[ask], out=str(folder / ask), size="nano", settings=FAST, quiet=True)
    return folder, data


def test_inspect_says_how_columns_are_written(trained: tuple[Path, Path]) -> None:
    inspection = onetrunk.inspect(str(trained[1]), ask=["fresh"], quiet=True)
    reports = {c.name: c for c in inspection.columns}
    assert {name: c.type for name, c in reports.items()} == {
        "column 1": "number", "weight": "number", "price": "number", "day": "date",
        "fresh": "category", "grade": "category", "cost": "number",
    }  # fmt: skip
    assert "numbers of the rows" in reports["column 1"].role
    assert reports["weight"].summary["max"] == 4.25 and reports["price"].summary["max"] == 13850
    assert reports["day"].summary["first"] == "2023-01-01" and reports["day"].summary["unreadable"] == 0
    assert set(reports["grade"].balance or {}) == {"None", "mild", "bad"}
    notes = "\n".join(inspection.notes)
    for words in (
        "separated by semicolons (;)",
        "weight: numbers have a decimal comma, like '0,25 kg'; numbers are in kg.",
        "day: the day comes before the month, as '13/01/2023' tells.",
        "cost: numbers are in $.",
    ):
        assert words in notes


def test_a_model_folder_keeps_it(trained: tuple[Path, Path]) -> None:
    model = load(trained[0] / "fresh")
    assert model.encoder("weight").options.model_dump(exclude_defaults=True) == {"decimal": ",", "unit": "kg"}
    assert model.encoder("price").options.model_dump(exclude_defaults=True) == {"decimal": ","}
    assert model.encoder("day").options.model_dump(exclude_defaults=True) == {"order": "dmy"}
    assert model.encoder("grade").class_names() == ["None", "bad", "mild"] and "column 1" not in model.columns  # type: ignore[attr-defined]


def test_rows_are_answered_alike_whatever_they_come_in(trained: tuple[Path, Path], tmp_path: Path) -> None:
    model = load(trained[0] / "fresh")
    written = {k: v for k, v in row(4).items() if k}
    plain: dict[str, Any] = {
        "weight": 1.25,
        "price": 5450,
        "day": datetime.date(2023, 1, 5),
        "grade": "mild",
        "cost": 5,
    }
    odd = {**written, "weight": "heavy", "price": "n/k", "day": "soon", "fresh": "unknown", "cost": "1"}
    sources: list[Any] = [
        [written],
        [plain],
        [{**plain, "day": "2023-01-05", "weight": "1250 g", "cost": "$5"}],
        str(table(tmp_path / "one.csv", [written])),
        str(table(tmp_path / "odd.csv", [written, odd])),
        json.loads(json.dumps([{**written, "fresh": True}])),
    ]
    answers = [float(model.predict(source, max_bad=1.0)["fresh_p_True"][0]) for source in sources]
    assert answers == [pytest.approx(answers[0], abs=1e-6)] * len(sources)


def test_answers_carry_the_unit(trained: tuple[Path, Path]) -> None:
    answers = load(trained[0] / "cost").predict([row(1)])
    assert isinstance(answers["cost"][0], float) and answers["cost_unit"][0] == "$"


def test_evaluate_counts_a_truth_that_training_never_saw(trained: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [row(i) for i in range(N, N + 40)]
    model, more = str(trained[0] / "fresh"), {"quiet": True, "allow_equal_rows": True}
    clean = onetrunk.evaluate(model, str(table(tmp_path / "a.csv", rows)), **more)
    rows.append({**row(N + 40), "fresh": "pending"})
    odd = onetrunk.evaluate(model, str(table(tmp_path / "b.csv", rows)), **more)
    accuracy = clean.tasks[0].metrics["accuracy"]
    assert odd.tasks[0].metrics["accuracy"] == pytest.approx((accuracy or 0) * 40 / 41)
    assert odd.tasks[0].metrics["unseen"] == 1


def test_rows_that_training_saw_are_known_again_in_another_spelling(trained: tuple[Path, Path], tmp_path: Path) -> None:
    again = [row(i) for i in range(N)]
    for i, each in enumerate(again):
        each["day"] = str(datetime.date(2023, 1, 1) + datetime.timedelta(days=i))
        each["weight"] = f"{(i % 17 / 4 + 0.25) * 1000:.0f} g"
    model = str(trained[0] / "fresh")
    same = onetrunk.evaluate(model, str(trained[1]), quiet=True)
    other = onetrunk.evaluate(model, str(table(tmp_path / "again.csv", again)), quiet=True)
    assert other.tasks[0].rows == same.tasks[0].rows == 12  # those of the test split


def test_words_for_missing_values_are_kept_with_the_model(tmp_path: Path) -> None:
    rows = [{"x": str(i % 9), "y": ["a", "b", "-"][i % 3]} for i in range(60)]
    data = table(tmp_path / "train.csv", rows)
    onetrunk.finetune(
        str(data), ask=["x"], out=str(tmp_path / "m"), size="nano", settings=FAST, quiet=True, missing="-"
    )
    model = load(tmp_path / "m")
    assert model.missing == ["-"] and model.encoder("y").class_names() == ["a", "b"]  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="nothing is known of the row"):
        one, other = (model.predict([{"y": word}], max_bad=1.0) for word in ("-", None))
    assert one["x"].tolist() == other["x"].tolist()


def test_ambiguous_days_are_told_until_somebody_says_what_they_are(tmp_path: Path) -> None:
    days = [datetime.date(2023 + m // 12, m % 12 + 1, d) for m in range(24) for d in (1, 8)]
    rows = [{"day": day.strftime("%d/%m/%Y"), "sold": str(i), "label": "ab"[i % 2]} for i, day in enumerate(days)]
    data = str(table(tmp_path / "a.csv", rows))
    notes = "\n".join(onetrunk.inspect(data, ask=["label"], quiet=True).notes)
    assert "day: does the day or the month come first in '08/01/2023'? Nothing tells." in notes
    options = onetrunk.inspect(data, ask=["label"], quiet=True, types={"day": "date:dmy"}, split="time:day")
    day = next(c for c in options.columns if c.name == "day")
    assert day.summary["last"] == "2024-12-08" and not any("does the day" in note for note in options.notes)
    assert options.split is not None and options.split["rows"]["train"] == 38
    with pytest.raises(DataError, match=r"date:dmy or date:mdy \(--types\)"):
        onetrunk.inspect(data, ask=["label"], quiet=True, split="time:day")


def test_a_column_that_only_says_the_split_is_left_out_and_said(tmp_path: Path) -> None:
    names = ["train"] * 8 + ["val", "test"]
    rows = [{"x": str(i % 7), "part": names[i % 10], "label": "ab"[i // 10 % 2]} for i in range(100)]
    data = str(table(tmp_path / "a.csv", rows))
    more: dict[str, Any] = {"ask": ["label"], "split": "given:part", "quiet": True}
    inspection = onetrunk.inspect(data, **more)
    assert {c.name: c.role for c in inspection.columns}["part"] == "says which split a row belongs to"
    assert inspection.split is not None and inspection.split["rows"] == {"train": 80, "val": 10, "test": 10}
    more |= {"out": str(tmp_path / "m"), "size": "nano", "settings": FAST, "allow_equal_rows": True}
    model = onetrunk.finetune(data, **more)
    assert list(model.columns) == ["x", "label"]
    assert model.provenance["stages"][-1]["left_out"] == {"part": "says which split a row belongs to"}
