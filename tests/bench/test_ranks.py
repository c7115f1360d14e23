"""The comparisons of several processes judge what runs leave. Runs themselves are tested in `engine/test_world.py`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import ddp_scaling, fsdp_equal, kill_a_rank, torchrun
from bench.common import Run
from onetrunk.core.events import ignore
from onetrunk.storage.tensors import save_tensors


def leave(folder: Path, weight: float, loss: float = 1.0, speeds: tuple[float, ...] = (1.0,)) -> None:
    """What a run leaves."""
    folder.mkdir()
    for name in torchrun.FILES:
        save_tensors(folder / name, {"w": torch.tensor([1.0, weight])})
    records = [{"step": i + 1, "losses": {"a": loss}, "tokens_per_s": speed} for i, speed in enumerate(speeds)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def out_of(words: list[str]) -> Path:
    return Path(next(word for word in words if word.startswith("--out=")).removeprefix("--out="))


def test_one_run_with_other_bits_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = iter([2.0, None, 5.0, 1.0, 1.0])  # None: it was at its end before
    monkeypatch.setattr(torchrun, "start", lambda *args: None)
    monkeypatch.setattr(torchrun, "kill_one", lambda *args: next(ended))
    bits = {"straight": (1.0, 1.0), "run-1": (1.0, 1.0), "run-3": (1.0000001, 1.0), "run-4": (1.0, 2.0)}
    went_on: list[int] = []

    def finish(processes: int, words: list[str], *rest: object) -> None:
        went_on.append(processes)
        leave(out_of(words), *bits.get(out_of(words).name, (1.0, 1.0)))

    monkeypatch.setattr(torchrun, "finish", finish)
    figures = kill_a_rank.compare(Run("kill_a_rank", "test", 0, ["kills=4"], True, tmp_path, ignore))
    assert figures.ours == 0.5 and figures.rival == 1.0 and figures.also["slowest_end"] == 5.0
    assert not figures.also["ends_in_time"] and went_on == [2, 1, 2, 1, 2]


def test_speeds_are_compared_step_by_step_and_weights_by_their_largest_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(processes: int, words: list[str], threads: int, *rest: object) -> None:
        assert (processes, threads) in [(2, 1), (1, 2), (1, 1), (4, 1)]
        sharded = out_of(words).name.startswith("sharded")
        leave(out_of(words), 1.0 + 4e-7 * sharded, speeds=(1.0, 1.0, 1.0, 30.0 / threads, 20.0, 10.0))

    monkeypatch.setattr(torchrun, "finish", finish)
    speed = ddp_scaling.compare(Run("ddp_scaling", "test", 0, ["rounds=1"], True, tmp_path, ignore))
    assert speed.ours == 20.0 and speed.rival == 15.0 and speed.ratio == pytest.approx(4 / 3)
    same = fsdp_equal.compare(Run("fsdp_equal", "test", 0, [], True, tmp_path, ignore))
    assert same.ours == pytest.approx(0.4, rel=0.2) and same.also["holds"] and len(same.also["by_ranks"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_rank_is_found_by_what_torchrun_told_it_and_killed() -> None:
    script = (
        "import os, subprocess, sys\n"
        "some = [subprocess.Popen(['sleep', '60'], env={**os.environ, 'RANK': str(r)}) for r in (0, 1)]\n"
        "print(flush=True)\n"
        "some[1].wait(); some[0].kill(); some[0].wait()"
    )
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert run.stdout is not None and run.stdout.readline()
    until = time.monotonic() + 10  # the system's list of a process's children lags behind on a busy machine
    while sorted(torchrun.ranks(run.pid)) != [0, 1] and time.monotonic() < until:
        time.sleep(0.05)
    assert sorted(torchrun.ranks(run.pid)) == [0, 1]
    seconds = torchrun.kill_one(run, 1, 0.0)
    assert seconds is not None and seconds < 30
