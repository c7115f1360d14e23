"""shared_cores: how much slower training gets beside a busy process; against OpenMP's own way of waiting.

    python -m bench shared_cores      about 6 minutes on 2 cores, on a machine that does nothing else
    python -m bench shared_cores --quick    one round of fewer steps

A small causal language model trains in a process of its own, on all cores: alone, and beside one busy process for every
two cores. `ours` is tokens/s alone over tokens/s beside it, as `import onetrunk` lets threads wait; the rival is
libgomp's default, which spins 300,000 rounds. Other ways to wait stand beside them. `quiet_loss` is what ours costs on
a quiet machine: the share of the default's tokens/s that is missing.

What must hold: at most 2.5 times slower beside the busy process, and under 3 % lost on a quiet machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from bench.common import ROOT, Figures, Run
from onetrunk.core.config import Config, with_settings
from onetrunk.core.events import Note

SHAPE = {"width": 256, "layers": 4, "heads": 4, "vocabulary": 65}
BATCH, LENGTH = 16, 128
QUICK = ["rounds=1", "steps=6", "warm=2"]
TRAIN = {"optimizer": "adamw", "precision": "fp32", "compile": False}
WAITING: dict[str, dict[str, str]] = {
    "ours": {},
    "OpenMP's default": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spins 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spins 100,000": {"GOMP_SPINCOUNT": "100000"},
}
_DECIDES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Amounts(Config):
    """How much is measured."""

    rounds: int = Field(3, ge=1)
    steps: int = Field(14, ge=2)  # of each training
    warm: int = Field(4, ge=1)  # of these, how many only warm up


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Inside, so many processes compute without a pause, each on one core."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def tokens_per_second(run: Run, amounts: Amounts, environment: dict[str, str], name: str) -> float:
    """Of the median step, trained in a process of its own."""
    rest = {key: value for key, value in os.environ.items() if key not in _DECIDES}
    arguments: dict[str, Any] = {
        "call": "bench.speed:train_ours", "shape": SHAPE, "batch": BATCH, "length": LENGTH,
        "steps": amounts.steps, "train": TRAIN, "warm": amounts.warm, "place": str(run.place / name),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.speed"],
        input=json.dumps(arguments),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        check=True,
        env=rest | environment | {"PYTHONPATH": str(ROOT / "src")},
    )
    return float(json.loads(done.stdout.splitlines()[-1])["tokens_per_s"])


def compare(run: Run) -> Figures:
    amounts = Amounts.parse(with_settings({}, run.settings), "the settings of shared_cores")
    neighbours = max(1, (os.cpu_count() or 2) // 2)
    chosen = WAITING if run.rival else {"ours": WAITING["ours"]}
    alone: dict[str, list[float]] = {name: [] for name in chosen}
    beside: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(amounts.rounds):
        for name, environment in chosen.items():
            folder = f"{name.replace(' ', '-')}-{turn}"
            alone[name].append(tokens_per_second(run, amounts, environment, folder))
            with busy(neighbours):
                beside[name].append(tokens_per_second(run, amounts, environment, f"{folder}-beside"))
            run.on_event(Note(f"{name}: {alone[name][-1]:,.0f} alone, {beside[name][-1]:,.0f} tokens/s beside others"))
    slower = {name: [a / b for a, b in zip(alone[name], beside[name], strict=True)] for name in chosen}
    quiet = {name: statistics.median(each) for name, each in alone.items()}
    rival = "OpenMP's default"
    ours = statistics.median(slower["ours"])
    theirs = statistics.median(slower[rival]) if run.rival else None
    return Figures(
        ours=ours,
        interval=[min(slower["ours"]), max(slower["ours"])],
        unit="times slower beside busy processes (less is better)",
        rival_name=f"{rival} (libgomp spins 300,000 rounds)",
        rival=theirs,
        split={"rounds": amounts.rounds, "busy_processes": neighbours, "tokens_per_step": BATCH * LENGTH},
        ratio=None if theirs is None else theirs / ours,
        also={
            "quiet_loss": None if theirs is None else 1 - quiet["ours"] / quiet[rival],
            "times_slower": {name: statistics.median(each) for name, each in slower.items()},
            "tokens_per_s_alone": quiet,
            "tokens_per_s_beside": {name: statistics.median(each) for name, each in beside.items()},
            "interval_is": "least and most of the rounds",
        },
    )
