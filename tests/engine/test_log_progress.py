"""The log survives torn lines; progress goes to stderr, and only when wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrunk.engine.log import MetricsLog
from onetrunk.engine.progress import Progress, resident_bytes
from onetrunk.engine.runtime import Runtime

LINES = '{"step": 1}\n{"step": 2}\n{"step": 2, "validation": {}}\n{"step": 3}\n'


@pytest.mark.parametrize(
    ("tail", "step", "validated", "kept"),
    [("", 2, 2, 3), ("", 2, 0, 2), ("", 3, 2, 4), ('{"st', 3, 2, 4), ('{"step": 4}', 3, 2, 4), ("", 0, 0, 0)],
)
def test_opening_cuts_what_will_come_again(tmp_path: Path, tail: str, step: int, validated: int, kept: int) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES + tail)
    log = MetricsLog(tmp_path, step, validated, tensorboard=False)
    assert len(log.records) == kept
    log.write({"step": 9})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == kept + 1
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_now_and_then_where_there_is_no_terminal(capsys: pytest.CaptureFixture) -> None:
    progress = Progress("pretrain")
    progress.start(0, 50)
    for step in range(1, 51):
        progress.update(step, 1.5, 2000.0)
    progress.note("a note")
    progress.close()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 11
    assert lines[0].startswith("pretrain 5/50  loss 1.5000  2,000 tokens/s") and lines[0].endswith(" GB")
    assert lines[-1] == "a note"


def test_silent_is_silent(capsys: pytest.CaptureFixture) -> None:
    progress = Progress(silent=True)
    progress.start(0, 1)
    progress.update(1, 1.0, 1.0)
    progress.note("a note")
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_one_live_line_on_a_terminal(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    progress = Progress("train")
    progress.start(0, 10)
    progress.update(3, 1.25, 100.0)
    progress.note("[a note]")
    progress.update(4, 1.0, 100.0)
    progress.close()
    err = capsys.readouterr().err
    assert "4/10" in err and "loss 1.0000" in err and "100 tokens/s" in err and "[a note]" in err


def test_memory_is_told() -> None:
    import torch

    assert 10e6 < resident_bytes() <= Runtime(torch.device("cpu")).peak_bytes * 1.1
