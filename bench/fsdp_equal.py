"""fsdp_equal: the largest difference between weights trained sharded on 2 and 4 ranks and those of one process.

    python -m bench fsdp_equal             about 4 minutes on 2 cores
    python -m bench fsdp_equal --quick     a few steps; nothing is kept

A small model is pretrained on texts, numbers and classes by Muon and AdamW, in fp32: by one process, and by FSDP2
(`train.sharded`) on 2 and 4 ranks, over the same micro-batches. At most 1e-6 is wanted.
"""

from __future__ import annotations

from bench import torchrun
from bench.common import Figures, Run
from onetrunk.core.config import with_settings
from onetrunk.core.events import Note

QUICK = ["steps=3"]
WANTED = 1.0  # millionths
RANKS = (2, 4)


def compare(run: Run) -> Figures:
    options = with_settings({"steps": 10}, run.settings)
    table = torchrun.write_table(run.place / "rows.csv", rows=400, words=8, seed=run.seed)

    def trained(processes: int, shares: int, out: str) -> None:
        settings = [
            f"pretrain.steps={options['steps']}", "train.precision=fp32", "train.tensorboard=false",
            f"train.shares={shares}", "train.sharded=true",
        ]  # fmt: skip
        words = ["pretrain", str(table), f"--out={run.place / out}", "--size=nano", f"--seed={run.seed}"]
        words += [word for setting in settings for word in ("--set", setting)]
        torchrun.finish(processes, words, 1, run.place / f"{out}.log")

    differences = {}
    for processes in RANKS:
        trained(1, processes, f"whole-{processes}")  # a process alone has whole weights
        trained(processes, processes, f"sharded-{processes}")
        worst = torchrun.furthest(run.place / f"whole-{processes}", run.place / f"sharded-{processes}")
        differences[f"{processes} ranks"] = worst
        run.on_event(Note(f"{processes} ranks: {differences[f'{processes} ranks']:.2e}"))
    worst = max(differences.values())
    return Figures(
        ours=1e6 * worst,
        interval=None,
        unit="largest difference of a weight, in millionths (less is better)",
        rival_name="wanted, at most",
        rival=WANTED,
        split={"steps": options["steps"], "ranks": list(RANKS), "table_rows": 400},
        also={
            "by_ranks": {name: f"{value:.2e}" for name, value in differences.items()},
            "holds": 1e6 * worst <= WANTED,
        },
    )
