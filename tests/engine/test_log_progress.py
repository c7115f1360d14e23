"""The log survives torn lines; progress is events."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrunk.core.events import Collected, Note, StepDone, StepsEnded, StepsStarted
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


def test_steps_are_told_as_events_and_nothing_is_printed(capfd: pytest.CaptureFixture) -> None:
    told = Collected()
    progress = Progress("pretraining", told)
    progress.start(1, 3)
    for step in (2, 3):
        progress.update(step, 1.5, 2000.0, 0.25)
    progress.note("a note")
    progress.close()
    assert told[0] == StepsStarted("pretraining", 1, 3) and told[-2:] == [Note("a note"), StepsEnded("pretraining")]
    first, last = told.of(StepDone)
    assert (first.step, first.steps, first.loss, first.tokens_per_s, first.mfu) == (2, 3, 1.5, 2000.0, 0.25)
    assert last.step == 3 and last.memory_bytes > 10e6
    assert first.as_json()["event"] == "StepDone" and capfd.readouterr() == ("", "")


def test_memory_is_told() -> None:
    import torch

    assert 10e6 < resident_bytes() <= Runtime(torch.device("cpu")).peak_bytes * 1.1
