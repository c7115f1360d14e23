"""edges: what mutated and hostile files, kills at any moment and other people's models do to the product.

    python -m bench edges             a whole run
    python -m bench edges --quick     a tenth of it; nothing is kept

Every check is drawn from the seed, and made in a process of its own with limits on memory and time, as many at once as
there are cores:

- mutations: tables, pictures, sounds, model folders and checkpoints of every family, with changed bytes and words, are
  read or refused; never a traceback, a hang or gigabytes. A checkpoint that is read is what transformers reads;
- kills: commands of 18 settings, killed at random moments and before file operations, end with the same bits, complete;
- hostile files: bombs, pickles, wrong ranks, links and pipes are refused, and no code of them runs;
- models: every family in, and out to transformers and llama.cpp, against these libraries.

`ours` is the share of all checks that hold; it must be 1. A run that was stopped goes on with what is not finished.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.common import ROOT, Figures, Run
from onetrunk.core.config import Config, with_settings
from onetrunk.core.events import Note

QUICK = ["mutations=8", "kills=36", "every=30", "hostile=2", "rounds=1"]
_MOST_FAILURES = 200  # that are kept
_MEMORY = Path("/dev/shm")  # files in memory: of processes that are killed, no disk has to be waited for


class Amounts(Config):
    """How much is tried, and within which limits."""

    parts: list[str] = Field(["kills", "models", "hostile", "mutations"])
    mutations: int = Field(100, ge=1)  # of each format
    kills: int = Field(500, ge=0)  # at random moments, in the whole
    every: int = Field(1, ge=0)  # kill before every n-th file operation; 0: none
    settings: int = Field(18, ge=1, le=18)  # that are killed
    hostile: int = Field(10, ge=1)  # seeds of each case
    rounds: int = Field(5, ge=1)  # seeds of each family
    seconds: float = Field(120.0, gt=0)  # of one attempt
    megabytes: int = Field(1024, ge=1)  # more than before it
    processes: int = Field(os.cpu_count() or 1, ge=1)  # at once

    def of(self, part: str) -> dict[str, int]:
        if part == "mutations":
            return {"mutations": self.mutations}
        if part == "kills":
            return {"kills": self.kills, "every": self.every, "settings": self.settings}
        return {"rounds": self.hostile if part == "hostile" else self.rounds}


def compare(run: Run) -> Figures:
    amounts = Amounts.parse(with_settings({}, run.settings), "the settings of edges")
    made: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    outcomes: dict[str, Any] = {}
    worst: dict[str, float] = {}
    minutes: dict[str, float] = {}
    kept = run.unfinished
    for part in amounts.parts:
        found = _part(run, part, amounts, kept)
        minutes[part] = found["seconds"] / 60
        made.update(found["made"])
        outcomes |= found["outcomes"]
        failures += found["failures"]
        worst |= found["worst"]
        run.on_event(Note(f"{part}: {sum(found['made'].values()):,} checks, {len(found['failures'])} do not hold."))
    failed = Counter(failure["kind"] for failure in failures)
    every = made.total()
    return Figures(
        ours=1 - len(failures) / every,
        interval=None,
        unit="share of all checks that hold",
        rival_name="wanted",
        rival=1.0 if run.rival else None,
        split={"checks": every, "seed": run.seed},
        also={
            "checks": dict(made),
            "outcomes": outcomes,
            "failed": dict(failed),
            "worst_difference": {kind: f"{value:.1e}" for kind, value in worst.items()},
            "minutes_of_a_process": minutes,
            "amounts": amounts.model_dump(),
            "failures": failures[:_MOST_FAILURES],
        },
    )


def _part(run: Run, part: str, amounts: Amounts, kept: Path) -> dict[str, Any]:
    """In a process of its own, with one thread: a fork of more would wait for the others."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else run.place) as place:
        return _tried(run, part, amounts, Path(place), kept)


def _tried(run: Run, part: str, amounts: Amounts, place: Path, kept: Path) -> dict[str, Any]:
    (finished := kept / part).mkdir(exist_ok=True)
    told = {
        "seed": run.seed,
        "place": str(place / part),
        "processes": amounts.processes,
        "limits": {"seconds": amounts.seconds, "megabytes": amounts.megabytes},
        "amounts": amounts.of(part),
        "kept": str(finished),
    }
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.trials", part],
        input=json.dumps(told),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **single, **quiet, "PYTHONPATH": f"{ROOT / 'src'}"},
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
