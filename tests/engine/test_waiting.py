"""Beside busy processes threads that wait for each other sleep at once; on a quiet machine they keep their cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from onetrunk.engine import waiting

STAT = """cpu  100 0 100 1000 0 0 0 0 0 0
cpu0 10 1 2 500 7 3 4 5 9 9
cpu1 90 0 98 500 0 0 0 0 0 0
intr 5
"""
_SPINNING = """
import time, torch
from onetrunk.engine import waiting
torch.set_num_threads(2)
x = torch.ones(400, 400)

def computes_on(seconds):
    (x @ x).sum()
    began = time.process_time()
    end = time.monotonic() + seconds
    while time.monotonic() < end and time.process_time() - began < 0.1:
        time.sleep(0.01)
    return time.process_time() - began > 0.1

computes_on(0.0)
few = waiting.FewSpins()
if not waiting._libraries():
    print("another OpenMP")
else:
    print(computes_on(60.0))
    with few:
        first = few.on, computes_on(1.0)
        few.__enter__()
        print(*first, computes_on(1.0))
    print(few.on, computes_on(60.0))
"""


def test_what_cores_compute_is_read() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    assert waiting.busy_seconds(STAT, {0}) == pytest.approx((10 + 1 + 2 + 3 + 4 + 5) / tick)
    assert waiting.busy_seconds(STAT, {0, 1}) == pytest.approx((25 + 188) / tick)
    assert waiting.busy_seconds(STAT, {7}) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2, reason="of two cores")
def test_threads_spin_hardly_at_all_as_long_as_told() -> None:
    """Where the OpenMP of GNU is told to spin for minutes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    environment |= {"GOMP_SPINCOUNT": "30000000000"}
    done = subprocess.run(
        [sys.executable, "-c", _SPINNING], env=environment, capture_output=True, text=True, check=True
    )
    if done.stdout.strip() != "another OpenMP":
        assert done.stdout.split("\n")[:3] == ["True", "True False False", "False True"]


class Looks:
    """A machine on which others compute so many cores, look after look."""

    def __init__(self, others: list[float]) -> None:
        self.others, self.now, self.busy, self.few = iter(others), 0.0, 0.0, []

    def sleep(self, seconds: float) -> None:
        self.busy += next(self.others) * seconds  # ends the endless loop where there are no more
        self.now += seconds


def test_it_is_on_where_others_leave_too_few_cores_and_off_when_they_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks([0.1, 0.3, 0.4, 1.0, 0.2, 0.1, 0.2, 0.9])
    states: list[bool] = []

    class Told:
        on = False

        def __enter__(self) -> None:
            self.on = True
            states.append(True)

        def close(self) -> None:
            self.on = False
            states.append(False)

    monkeypatch.setattr(waiting, "FewSpins", Told)
    monkeypatch.setattr(waiting, "busy_seconds", lambda: looks.busy)
    monkeypatch.setattr(
        waiting, "time", SimpleNamespace(sleep=looks.sleep, monotonic=lambda: looks.now, process_time=lambda: 0.0)
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(StopIteration):
        waiting._look()
    assert states == [False, False, True, True, True, False, False, True]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the threads that would be started."""
    started: list[str] = []
    made = type("Made", (threading.Thread,), {"start": lambda self: started.append(self.name)})
    monkeypatch.setattr(waiting, "threading", SimpleNamespace(Thread=made))
    monkeypatch.setattr(waiting, "_watch", None)
    for name in waiting.SAYS_HOW:
        monkeypatch.delenv(name, raising=False)
    yield started


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/stat")
def test_one_thread_or_who_says_how_to_wait_needs_no_watch(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    waiting.watch_others()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with monkeypatch.context() as told:
        told.setenv("OMP_WAIT_POLICY", "passive")
        waiting.watch_others()
    assert not watched
    waiting.watch_others()
    waiting.watch_others()
    assert watched == ["onetrunk-waiting"]
