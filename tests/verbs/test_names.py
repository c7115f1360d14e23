"""Any text is a column's name: through the whole life of a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from worlds import CASES

import onetrunk
from onetrunk import cli
from onetrunk.core.config import take_part, with_settings
from onetrunk.storage.names import file_name

NAMES = [
    "Sepal.Length", "a.b.c", ".", "..", "training", "forward", "parameters", "_modules", "items", "keys",
    "column_modules.0", "0", "__metadata__", "text", "molecule", "row", "row.embedding", "gather", "given", "", " ",
    "a/b", "../up", "/etc",
    "\\", "C:\\x", "[bold]", "[/]", "[/nothing]", "a[0]", "房价 (万)", "数据.值", 'say "hi"', "it's", "x=1", "a,b",
    "$x_1$ and $", "<script>alert(1)</script>", "& <", "line\nbreak", "%s {0} {name}", "*", "|", "`code`", "# heading",
    "\x1b[31mred", "x" * 300, "é", "e\u0301", "🙂", "\u202eabc", "NaN", "None", "index", "label_probability",
    "predict/x",
]  # fmt: skip
QUICK = ["pretrain.steps=2", "finetune.steps=2", "finetune.folds=2", "train.save_every=1"]  # with TensorBoard


def values(kind: str, n: int, seed: int = 0) -> list[Any]:
    dice = np.random.default_rng(seed)
    return {
        "number": [round(float(x), 3) for x in dice.normal(size=n)],
        "category": dice.choice(["low", "high"], n).tolist(),
        "text": [f"the {word} room {i}" for i, word in enumerate(dice.choice(["quiet", "noisy"], n))],
    }[kind]


def hostile(kinds: list[str], names: list[str], n: int) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """A table whose columns have these names, and types in turn."""
    types = {name: kinds[i % len(kinds)] for i, name in enumerate(names)}
    return {name: values(kind, n, i) for i, (name, kind) in enumerate(types.items())}, types


WHOLE = [
    ["Sepal.Length", "training", "[/nothing]", "../up", "", "房价 (万)"],
    ["$x_1$ and $", "text", "<script>alert(1)</script>", "forward", "a/b", "\x1b[31mred"],
]


@pytest.mark.parametrize("names", WHOLE, ids=["a", "b"])
def test_a_model_of_hostile_names_lives_its_whole_life(
    tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table, types = hostile(["number", "category", "text"], names, 90)
    asked = names[:2]
    model = onetrunk.train(table, ask=asked, out=str(tmp_path / "m"), size="nano", types=types, settings=QUICK)
    output = capsys.readouterr().err
    assert "\x1b[31m" not in output
    for name in names:
        assert name.replace("\x1b", "\\x1b") in output, "what was chosen is said, to the letter"
    assert set(model.columns) == set(names) and model.tasks[0].ask == asked
    evidence = json.loads((tmp_path / "m" / "evidence" / "metrics.json").read_text(encoding="utf-8"))
    assert [task["ask"] for task in evidence["tasks"]] == asked and evidence["tasks"][0]["baselines"]
    assert "<script>alert(1)" not in (tmp_path / "m" / "evidence" / "report.html").read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m-foundation"]


def test_every_hostile_name_is_answered_saved_and_judged(tmp_path: Path) -> None:
    table, types = hostile(["number", "category"], NAMES, 60)
    model = onetrunk.pretrain(table, types=types, out=str(tmp_path / "m"), size="nano", settings=QUICK, quiet=True)
    again = onetrunk.load(tmp_path / "m")
    rows = {name: values[:4] for name, values in table.items()}
    for name in NAMES:
        before, after = (m.answer(rows, name) for m in (model, again))
        assert [(a.value, a.probability) for a in before] == [(a.value, a.probability) for a in after]
    for out, asked in (("a.csv", NAMES[::3]), ("a.jsonl", NAMES[1::3]), ("a.parquet", NAMES[2::3])):
        frame = onetrunk.predict(str(tmp_path / "m"), rows, ask=asked, out=str(tmp_path / out), quiet=True)
        assert {*asked} <= {*frame.columns} and len(frame) == 4
    also = {"allow_equal_rows": True}
    evidence = onetrunk.evaluate(str(tmp_path / "m"), table, ask=NAMES[::4], given=NAMES[1:9:2], quiet=True, **also)
    assert [task.ask for task in evidence.tasks] == NAMES[::4]
    assert onetrunk.load(tmp_path / "m").columns.keys() == model.columns.keys()


def test_an_export_and_an_adapter_of_hostile_names(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    table, types = hostile(["text", "category", "number"], [*NAMES[::4], "is it"], 240)
    types["is it"], table["is it"] = "category", values("category", 240)
    options: dict[str, Any] = {"types": types, "settings": [*QUICK, "train.tensorboard=false"], "quiet": True}
    onetrunk.pretrain(table, out=str(tmp_path / "start"), size="nano", **options)
    options |= {"ask": ["is it"], "start": str(tmp_path / "start")}
    tuned = onetrunk.finetune(table, out=str(tmp_path / "m"), lora=2, **options)
    both = onetrunk.load(tmp_path / "start", tmp_path / "m" / "adapter")
    for one, other in zip(*(m.answer(table, "is it", NAMES[::4]) for m in (tuned, both)), strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
    exported = onetrunk.export(str(tmp_path / "m"), table, to="onnx", out=str(tmp_path / "onnx"), rows=5, quiet=True)
    assert exported["rows"] == exported["equal_answers"] == 5
    assert {p.name for p in tmp_path.iterdir()} == {"start", "m", "onnx"}


def test_a_run_of_hostile_names_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onetrunk.data.loader import Loader

    table, types = hostile(["number", "text", "category"], NAMES[:6], 30)
    options: dict[str, Any] = {
        "types": types, "size": "nano", "quiet": True,
        "settings": ["pretrain.steps=4", "train.save_every=2", "train.merge=pcgrad", "train.balance=learnt"],
    }  # fmt: skip
    whole = onetrunk.pretrain(table, out=str(tmp_path / "whole"), **options).network.state_dict()
    real = Loader.__call__

    def killed(self: Loader, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return real(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Loader, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            onetrunk.pretrain(table, out=str(tmp_path / "m"), **options)
    again = onetrunk.pretrain(table, out=str(tmp_path / "m"), **options).network.state_dict()
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("name", ["text", "molecule", "text (column)"])
def test_a_column_named_like_a_type_has_an_encoder_of_its_own(tmp_path: Path, name: str) -> None:
    table = {
        name: values("category", 40), "review": values("text", 40), "text (column)": values("number", 40),
        "formula": CASES["molecule"].values * 3 + ["CCO"] * 4,
    }  # fmt: skip
    table[name] = values("category", 40)
    types = {name_: "number" for name_ in table} | {"review": "text", "formula": "molecule", name: "category"}
    model = onetrunk.pretrain(table, types=types, out=str(tmp_path / "m"), size="nano", settings=QUICK, quiet=True)
    assert model.encoder(name).class_names() == ["high", "low"]
    assert len({id(model.module(column)) for column in table}) == len(table)


def test_pictures_and_sounds_of_any_name_are_written_beside_the_answers(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"../up.x": CASES["image"].values, "[b]": values("category", 12)}
    worlds.model(table, {"../up.x": "image", "[b]": "category"}).save(tmp_path / "m")
    options = {"ask": ["../up.x"], "quiet": True}
    frame = onetrunk.predict(str(tmp_path / "m"), {"[b]": ["low"] * 2}, **options, out=str(tmp_path / "d" / "a.csv"))
    assert len(frame) == 2 and {p.name for p in tmp_path.iterdir()} == {"m", "d"}
    assert {p.parent.name for p in (tmp_path / "d").rglob("*.png")} == {"a"}


def test_the_command_line_takes_names_in_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = zip(values("number", 60), values("category", 60), values("text", 60), strict=True)
    lines = [json.dumps({"Sepal.Length": x, 'a,b="c"': label, "z=": text}) for x, label, text in rows]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    words = [
        "finetune", "data.jsonl", "--ask", '"a,b=""c"""', "--given", 'Sepal.Length,"z="', "--types", '"z="=text',
        "--set", 'columns."Sepal.Length".dropout=0.25', "--set", "finetune.steps=2", "--size", "nano", "--out", "m",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["onetrunk", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, capsys.readouterr().err
    model = onetrunk.load(tmp_path / "m")
    assert model.tasks[0].ask == ['a,b="c"'] and model.tasks[0].given == ["Sepal.Length", "z="]
    assert model.encoder("Sepal.Length").options.dropout == 0.25


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.b=c", ["a", "b", "c"]),
        ('"a.b"."=".c', ["a.b", "=", "c"]),
        ('"say ""hi"""=1', ['say "hi"', "1"]),
        ('say "hi.there"', ['say "hi', 'there"']),
        ('"open.b', ['"open', "b"]),
        ('"a"b.c', ['"a"b', "c"]),
        ("", [""]),
        ("a..b", ["a", "", "b"]),
        ('"".x', ["", "x"]),
    ],
)
def test_parts_stand_between_separators_or_in_quotes(text: str, parts: list[str]) -> None:
    collected, sign, rest = [], ".", text
    while sign:
        part, sign, rest = take_part(rest, ".=")
        collected.append(part)
    assert collected == parts


def test_settings_reach_columns_whose_names_hold_dots() -> None:
    data = with_settings({}, ['columns."Sepal.Length".type=number', 'columns."a=b".x="1.5"', "train.lr=1e-3"])
    assert data == {
        "columns": {"Sepal.Length": {"type": "number"}, "a=b": {"x": 1.5}},
        "train": {"lr": pytest.approx(0.001)},
    }


def test_file_names_are_different_and_lead_nowhere() -> None:
    result = [file_name(name) for name in NAMES]
    assert len(set(result)) == len(NAMES)
    assert not any(
        set(name) & set('/\\:*?"<>|\n\x1b\0') or name in (".", "..") or len(name.encode()) > 120 for name in result
    )
    assert file_name("label") == "label" and file_name("房价") == "房价"
    dice = np.random.default_rng(0)
    many = {"".join(dice.choice(list("a./%2E é"), 4)) for _ in range(3000)}
    assert len({file_name(name) for name in many}) == len(many)
