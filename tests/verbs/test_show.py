"""What a person sees: literally, on stderr, one live line on a terminal, and nothing when quiet."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from onetrunk import cli as command_line
from onetrunk import inspect
from onetrunk.core.events import (
    ColumnAdded,
    Decision,
    Event,
    LedgerLine,
    Note,
    RolesChosen,
    RowsSplit,
    Saved,
    StageStarted,
    StepDone,
    StepsEnded,
    StepsStarted,
)
from onetrunk.core.registry import column_types
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.record import Evidence, TaskEvidence
from onetrunk.evaluation.words import headline
from onetrunk.verbs.show import Printer


def step(number: int, steps: int, loss: float = 1.5) -> StepDone:
    return StepDone("pretraining", number, steps, loss, 2000.0, None, 10**9)


def shown(capsys: pytest.CaptureFixture, *events: Event, quiet: bool = False) -> str:
    printer = Printer(quiet)
    for event in events:
        printer(event)
    out, err = capsys.readouterr()
    assert out == "", "standard output is for results"
    return err


def test_a_line_now_and_then_where_there_is_no_terminal(capsys: pytest.CaptureFixture) -> None:
    steps = [step(number, 50) for number in range(1, 51)]
    err = shown(capsys, StepsStarted("pretraining", 0, 50), *steps, Note("a note"), StepsEnded("pretraining"))
    lines = err.splitlines()
    assert len(lines) == 11
    assert lines[0] == "pretraining 5/50  loss 1.5000  2,000 tokens/s  1.0 GB" and lines[-1] == "Note: a note"


@pytest.mark.parametrize(
    ("cost", "end"),
    [
        ({"wh": 0.0412, "co2_g": 0.0195}, "1.0 GB  ≈ 41.2 mWh, 19.5 mg CO2"),
        ({"wh": 1.5, "co2_g": 0.71, "energy_measured": True}, "1.0 GB  1.5 Wh, 0.71 g CO2"),
    ],
)
def test_the_line_tells_energy_and_whether_it_is_an_estimate(
    capsys: pytest.CaptureFixture, cost: dict[str, Any], end: str
) -> None:
    assert shown(capsys, replace(step(1, 1), **cost)).rstrip().endswith(end)


def test_quiet_is_silent(capsys: pytest.CaptureFixture) -> None:
    assert shown(capsys, StepsStarted("a", 0, 1), step(1, 1), Note("a note"), StepsEnded("a"), quiet=True) == ""


def test_one_live_line_on_a_terminal(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    events = StepsStarted("a", 0, 10), step(3, 10), Note("[a note]"), step(4, 10, 1.0), StepsEnded("a")
    err = shown(capsys, *events)
    assert "4/10" in err and "loss 1.0000" in err and "2,000 tokens/s" in err and "[a note]" in err


HOSTILE = "CRP [mg/l] [/ul] [bold] [/] \\"


@pytest.mark.parametrize(
    "event",
    [
        Note(HOSTILE),
        RolesChosen({HOSTILE: "number"}, {"label": "category"}, {}),
        RolesChosen({}, {HOSTILE: "number"}, {}),
        RolesChosen({}, {}, {HOSTILE: "constant"}),
        RolesChosen({}, {}, {"id": HOSTILE}),
        RowsSplit({"train": 1}, HOSTILE),
        LedgerLine(HOSTILE),
        ColumnAdded(HOSTILE, "number"),
        StageStarted(HOSTILE, 1, 1, 1, {HOSTILE: 1}),
        Decision(HOSTILE, HOSTILE, {HOSTILE: None}),
        Saved("model", HOSTILE),
    ],
)
def test_brackets_are_printed_literally(capsys: pytest.CaptureFixture, event: Event) -> None:
    shortest = "[mg/l] [/ul] [bold] [/] \\"
    assert shortest in shown(capsys, event)


def test_escape_sequences_do_not_reach_the_terminal(capsys: pytest.CaptureFixture) -> None:
    err = shown(capsys, Note("\x1b[2J\x07 gone"), Saved("model", "\x1b]0;title\x07"))
    assert "\x1b" not in err and "\x07" not in err and "\\x1b[2J" in err


def test_json_for_machines_holds_no_control_characters(capsys: pytest.CaptureFixture) -> None:
    hostile = "\x1b[2J \x9b31m \x7f \ud800 早 " + HOSTILE
    command_line._show({hostile: hostile}, as_json=True)
    line, _ = capsys.readouterr()
    assert json.loads(line) == {hostile: hostile} and "早" in line
    assert all(c.isprintable() for c in line.rstrip("\n")) and line.endswith("\n")


def test_an_inspection_shows_names_and_values_literally(capsys: pytest.CaptureFixture) -> None:
    hostile = ":heart: \x1b[2J [/] \u202e\\"
    label = [hostile, "plain"] * 20
    inspect({hostile: [f"{hostile} word {i}" for i in range(40)], "label": label}, ask=["label"])
    out, err = capsys.readouterr()
    assert out.count(r":heart: \x1b[2J") >= 4 and not set("\x1b\u202e❤") & set(out + err)


def test_a_metric_in_the_unit_of_its_column(capsys: pytest.CaptureFixture) -> None:
    encoder = column_types.get("number").encoder({"unit": "kg"})
    units = {metric.name: metric.unit for metric in column_types.get("number").evaluation(encoder).metrics()}
    assert units["rmse"] == units["crps"] == "kg" and units["r2"] == units["coverage"] == ""
    task = TaskEvidence(
        "weight", ["x"], 9, 0, "rmse", False, {"rmse": 3.1, "r2": 0.5}, Interval(3.1, 2.0, 4.0), unit="kg"
    )
    assert headline(task) == "RMSE 3.100 kg (2.000 to 4.000) on 9 held-out rows. No simple baseline was run."
    Printer().evidence(Evidence("m", [task]))
    assert "rmse in kg" in capsys.readouterr().err
