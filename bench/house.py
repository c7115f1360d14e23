"""house: speed before and after the house was rebuilt, both commits side by side; ours is the worst ratio new/old.

    python -m bench house      about 15 minutes on 2 cores

The commit before the rebuilding is checked out into a temporary folder and runs its own code in processes of its own,
in turn with today's: training a language model (`lm_384`), fine-tuning on ragged texts (`finetune_ragged`), a whole
process to nanoGPT's loss (`shakespeare_time`), reading text (`reading`), importing and a first step (`start_up`).
A ratio is today's speed over the old one: 1 is level, below 1 is slower. Each is the median of the rounds' ratios.
"""

from __future__ import annotations

import copy
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.common import ROOT, Figures, Run, data_folder

BEFORE = "79ca064"  # the last commit before it
Sides = dict[str, dict[str, Any]]


def _language_model() -> Sides:
    from bench.lm_384 import SHAPE
    from bench.speed import fast_precision

    train = {"precision": fast_precision(), "optimizer": "adamw", "compile": False}
    side = {"call": "bench.speed:train_ours", "shape": SHAPE, "batch": 16, "length": 256, "steps": 14, "train": train}
    return {"before": side, "now": side}


def _ragged() -> Sides:
    from bench.speed import fast_precision

    file = str(data_folder("chnsenticorp_hotel") / "train.csv")
    side = {"call": "bench.finetune_ragged:ours", "file": file, "tokens_per_batch": 16_384}
    side["precision"] = fast_precision()
    return {"before": side, "now": side}


def _shakespeare() -> Sides:
    from bench.shakespeare_time import SETTINGS
    from bench.speed import in_fast_precision

    settings = in_fast_precision(SETTINGS)
    old = copy.deepcopy(settings)
    old["columns"]["text"]["pairs"] = old["columns"]["text"].pop("bigrams")  # the setting's old name
    side = {"call": "bench.shakespeare:learn", "folder": str(data_folder("tinyshakespeare"))}
    return {"before": {**side, "settings": old}, "now": {**side, "settings": settings}}


def _reading(run: Run) -> Sides:
    from bench.reading import VOCABULARY, texts_as_files
    from onetrunk.columns.families.tokens.tokenizers import train_bpe

    files = texts_as_files(run)
    lines = [line for file in files for line in Path(file).read_text(encoding="utf-8").splitlines()]
    tokenizer = str(run.place / "tokenizer.json")
    train_bpe(lines, VOCABULARY).save(tokenizer)
    side = {"call": "bench.reading:ours", "files": files, "tokenizer": tokenizer}
    return {"before": side, "now": side}


def _start_up(run: Run, roots: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Ratios of the seconds of `import onetrunk`, of `--help` and of a first step."""
    from bench.start_up import COMMANDS, FIRST_STEP

    ratios: dict[str, list[float]] = {}
    for name in ("import onetrunk", "onetrunk --help", "first step, saved"):
        command = COMMANDS[name]
        for turn in range(rounds):
            seconds = {}
            for side, root in _in_turn(roots, turn):
                place = [str(run.place / f"start-{side}-{turn}")] if command[1] == FIRST_STEP else []
                options = {**os.environ, "PYTHONPATH": str(root / "src")}
                start = time.perf_counter()
                subprocess.run(
                    [sys.executable, *command, *place], cwd=root, env=options, check=True, stdout=subprocess.DEVNULL
                )
                seconds[side] = time.perf_counter() - start
            ratios.setdefault(name, []).append(seconds["before"] / seconds["now"])
    return ratios


def _in_turn(roots: dict[str, Path], turn: int) -> list[tuple[str, Path]]:
    """Each side goes first as often as the other."""
    return sorted(roots.items(), reverse=bool(turn % 2))


def compare(run: Run) -> Figures:
    from bench.speed import one_side

    old = run.place / "before"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(old), BEFORE], cwd=ROOT, check=True)
    try:
        roots = {"before": old, "now": ROOT}
        work: dict[str, tuple[Sides, str, bool, int]] = {
            "lm_384": (_language_model(), "tokens_per_s", True, 5),
            "finetune_ragged": (_ragged(), "samples_per_s", True, 3),
            "shakespeare_time": (_shakespeare(), "whole_seconds", False, 4),
            "reading": (_reading(run), "mb_per_s", True, 6),
        }
        ratios: dict[str, list[float]] = {}
        for name, (sides, key, faster_is_more, rounds) in work.items():
            for turn in range(rounds):
                result = {
                    side: one_side(run, f"{name} {side} {turn + 1}/{rounds}", sides[side], root)[key]
                    for side, root in _in_turn(roots, turn)
                }
                ratio = result["now"] / result["before"]
                ratios.setdefault(name, []).append(ratio if faster_is_more else 1 / ratio)
        ratios |= _start_up(run, roots, 8)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=False)
    medians = {name: statistics.median(each) for name, each in ratios.items()}
    worst = min(medians, key=lambda name: medians[name])
    return Figures(
        ours=medians[worst],
        interval=[min(ratios[worst]), max(ratios[worst])],
        unit="times the speed before (the worst)",
        rival_name=f"commit {BEFORE}",
        rival=1.0,
        split={"rounds": {name: len(each) for name, each in ratios.items()}},
        also={
            "medians": medians,
            "rounds": ratios,
            "worst": worst,
            "interval_is": "least and most of the rounds of the worst",
        },
    )
