"""ddp_scaling: training tokens/s of 2 ranks of one thread each, against one process of 2 threads.

    python -m bench ddp_scaling             about 6 minutes on 2 cores, on a machine that does nothing else
    python -m bench ddp_scaling --quick     a few steps; nothing is kept

A causal language model of 4 blocks (width 256) learns random texts, 8,192 tokens a step, in fp32. Both run in turn;
tokens/s are those of the median step. `ratio` is how many times as fast two ranks are: at least .9 is wanted, since
they have the same cores.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from bench import torchrun
from bench.common import Figures, Run
from onetrunk.core.config import with_settings
from onetrunk.core.events import Note

QUICK = ["steps=6", "rounds=1", "width=64"]
SIDES = {"two ranks": (2, 1), "one process": (1, 2)}  # processes, and threads of each
WARM = 3  # steps that do not count
CONTEXT, DOCUMENTS = 128, 64


def tokens_per_second(run: Run, side: str, turn: int, options: dict[str, Any]) -> float:
    """Of the median step."""
    processes, threads = SIDES[side]
    out = run.place / f"{side.replace(' ', '-')}-{turn}"
    width = options["width"]
    settings = [
        f"trunk={{width: {width}, layers: 4, heads: {max(1, width // 64)}}}", "attention=causal",
        f"columns.text={{length: {CONTEXT}, unit: character}}",
        f"pretrain.objectives=[{{kind: predict, documents: {DOCUMENTS}}}]", f"pretrain.steps={options['steps']}",
        "train.precision=fp32", "train.compile=false", "train.tensorboard=false", "train.save_every=100000",
    ]  # fmt: skip
    words = ["pretrain", str(run.place / "rows.csv"), "--given=text", f"--out={out}"]
    words += [word for setting in settings for word in ("--set", setting)]
    torchrun.finish(processes, words, threads, run.place / f"{out.name}.log")
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(record["tokens_per_s"] for record in records[WARM:] if "losses" in record)


def compare(run: Run) -> Figures:
    options = with_settings({"steps": 30, "rounds": 4, "width": 256}, run.settings)
    torchrun.write_table(run.place / "rows.csv", rows=2000, words=60, seed=run.seed)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(options["rounds"]):
        for side, found in speeds.items():
            found.append(tokens_per_second(run, side, turn, options))
            run.on_event(Note(f"{side}: {found[-1]:,.0f} tokens/s"))
    ours, rival = (statistics.median(speeds[side]) for side in SIDES)
    ratios = [a / b for a, b in zip(*speeds.values(), strict=True)]
    return Figures(
        ours=ours,
        interval=[min(speeds["two ranks"]), max(speeds["two ranks"])],
        unit="tokens/s",
        rival_name="one process of 2 threads",
        rival=rival,
        split={"rounds": options["rounds"], "width": options["width"], "tokens_of_a_step": CONTEXT * DOCUMENTS},
        ratio=statistics.median(ratios),
        also={"ratios": ratios, "wanted": 0.9, "interval_is": "least and most of the rounds"},
    )
