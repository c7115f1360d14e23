"""kill_a_rank: share of runs on two ranks, one of which is killed at a random moment, that end with the same bits.

    python -m bench kill_a_rank             30 kills, about 20 minutes on 2 cores
    python -m bench kill_a_rank --quick     4 of them; nothing is kept

`torchrun --nproc-per-node 2` pretrains a small model. At a random moment between its first process and its end, one
rank gets SIGKILL; then the same command goes on, with two ranks or with one, in turn. Weights and the losses of every
step are compared with a run that nobody stopped. `slowest_end` is in how many seconds all processes had ended.
"""

from __future__ import annotations

import random
import time
from typing import Any

from bench import torchrun
from bench.common import Figures, Run
from onetrunk.core.config import with_settings
from onetrunk.core.events import Note

QUICK = ["kills=4", "steps=40"]
WANTED = 1.0
ENDS_WITHIN = 60.0  # seconds, of which torchrun gives processes 30 to end in order


def compare(run: Run) -> Figures:
    options = with_settings({"kills": 30, "steps": 120}, run.settings)
    table = torchrun.write_table(run.place / "rows.csv", rows=400, words=8, seed=run.seed)

    def words(out: str) -> list[str]:
        settings = [
            f"pretrain.steps={options['steps']}", "train.save_every=7", "train.precision=fp32",
            "train.tensorboard=false", "train.shares=2",
        ]  # fmt: skip
        told = [word for setting in settings for word in ("--set", setting)]
        return ["pretrain", str(table), f"--out={run.place / out}", "--size=nano", f"--seed={run.seed}", *told]

    began = time.monotonic()
    torchrun.finish(2, words("straight"), 1, run.place / "straight.log")
    whole = time.monotonic() - began
    draw = random.Random(run.seed)
    kills: list[dict[str, Any]] = []
    turn = 0
    while len(kills) < options["kills"]:
        turn, name = turn + 1, f"run-{turn}"
        rank, after, processes = draw.randrange(2), draw.uniform(0, whole), 1 + len(kills) % 2
        log = run.place / f"{name}.log"
        seconds = torchrun.kill_one(torchrun.start(2, words(name), 1, log), rank, after)
        if seconds is None:  # it was at its end before
            continue
        torchrun.finish(processes, words(name), 1, log)
        same = torchrun.equal(run.place / "straight", run.place / name)
        kills.append({"rank": rank, "after": after, "seconds": seconds, "processes": processes, "equal": same})
        run.on_event(
            Note(
                f"{len(kills)}: rank {rank} killed after {after:.1f} s, all gone in {seconds:.1f} s, went on with "
                f"{processes}: {'the same bits' if same else 'OTHER BITS'}"
            )
        )
    share = sum(kill["equal"] for kill in kills) / len(kills)
    slowest = max(kill["seconds"] for kill in kills)
    return Figures(
        ours=share,
        interval=None,
        unit="share of runs that end with the same bits",
        rival_name="wanted",
        rival=WANTED,
        split={"kills": len(kills), "steps": options["steps"], "ranks": 2, "seconds_of_a_whole_run": whole},
        also={
            "slowest_end": slowest,
            "ends_in_time": share == WANTED and slowest <= ENDS_WITHIN,
            "of_rank_0": sum(kill["rank"] == 0 for kill in kills),
            "went_on_alone": sum(kill["processes"] == 1 for kill in kills),
        },
    )
