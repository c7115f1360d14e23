"""The log survives torn lines; progress is events."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.errors import ResourceError
from onetrunk.core.events import Collected, Note, StepDone, StepsEnded, StepsStarted
from onetrunk.engine.cost import CostSettings, Meter
from onetrunk.engine.log import MetricsLog
from onetrunk.engine.progress import Progress, resident_bytes
from onetrunk.engine.runtime import Runtime

LINES = '{"step": 1}\n{"step": 2}\n{"step": 2, "validation": {}}\n{"step": 3}\n'


@pytest.mark.parametrize(
    ("tail", "step", "validated", "kept"),
    [
        ("[1]", 3, 2, 4),
        ('{"step": "4"}', 9, 9, 4),
        ('{"step": 4, "losses": 5}', 9, 9, 4),
        ("[" * 99_999, 3, 2, 4),
        ("", 2, 2, 3),
        ("", 2, 0, 2),
        ("", 3, 2, 4),
        ('{"st', 3, 2, 4),
        ('{"step": 4}', 3, 2, 4),
        ("", 0, 0, 0),
    ],
)
def test_opening_cuts_what_will_come_again(tmp_path: Path, tail: str, step: int, validated: int, kept: int) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES + tail)
    log = MetricsLog(tmp_path, step, validated, tensorboard=False)
    assert len(log.records) == kept
    log.write({"step": 9})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == kept + 1
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_steps_are_told_as_events_and_nothing_is_printed(capfd: pytest.CaptureFixture) -> None:
    events = Collected()
    progress = Progress("pretraining", events)
    progress.start(1, 3)
    for step in (2, 3):
        progress.update(step, 1.5, 2000.0, 0.25)
    progress.note("a note")
    progress.close()
    assert events[0] == StepsStarted("pretraining", 1, 3) and events[-2:] == [Note("a note"), StepsEnded("pretraining")]
    first, last = events.of(StepDone)
    assert (first.step, first.steps, first.loss, first.tokens_per_s, first.mfu) == (2, 3, 1.5, 2000.0, 0.25)
    assert last.step == 3 and last.memory_bytes > 10e6
    assert first.as_json()["event"] == "StepDone" and capfd.readouterr() == ("", "")


def test_energy_is_told_of_the_stage_so_far_and_anew_at_its_end(tmp_path: Path) -> None:
    events = Collected()
    meter = Meter(CostSettings(core_watts=3600.0, co2_g_per_kwh=500.0), powercap=tmp_path)
    progress = Progress("pretraining", events, meter)
    progress.start(0, 3)
    for step in (1, 2, 3):
        sum(range(200_000))  # keeps a core busy
        progress.update(step, 1.5, 2000.0)
    first, second, last = events.of(StepDone)
    assert last.wh is not None and last.co2_g == pytest.approx(last.wh / 2)
    assert first.wh is not None and second.wh is not None and not last.energy_measured
    assert 0 < first.wh <= second.wh < last.wh <= meter.so_far().wh


def test_memory_is_told() -> None:
    import torch

    assert 10e6 < resident_bytes() <= Runtime(torch.device("cpu")).peak_bytes * 1.1


def test_the_board_holds_what_the_log_holds(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (1, 4):  # the second time it goes on from step 3
        log = MetricsLog(tmp_path, first - 1, 0, tensorboard=True)
        for step in range(first, first + 5):
            log.write({"step": step, "loss": first + 1 / step, "losses": {"predict/label": 0.5}, "note": "text"})
        log.close()
        time.sleep(1.01)  # files are ordered by their second
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert board.Tags()["scalars"] == ["loss", "losses/predict/label"]
    assert [(e.step, round(e.value, 4)) for e in board.Scalars("loss")] == [
        (step, round((1 if step < 4 else 4) + 1 / step, 4)) for step in range(1, 9)
    ]


@pytest.mark.parametrize("when", ["opening", "writing"])
def test_a_full_disk_under_the_board_is_one_plain_error(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = None if when == "opening" else MetricsLog(tmp_path, 0, 0, tensorboard=True)
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.raises(ResourceError, match=r"No space to write .*tensorboard"):
        MetricsLog(tmp_path, 0, 0, tensorboard=True) if log is None else log.write({"step": 1, "loss": 1.0})
    assert capfd.readouterr().err == ""
