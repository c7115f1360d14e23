"""assist2009: is a student's next answer right? AUC over every answer of 1,230 students, against DKVMN's kept figure.

    python -m bench assist2009      about 10 minutes on 2 cores

The source's fold 1. Histories of more than 200 answers are cut in pieces of 200, as DKVMN's are. Each answer is
predicted from its skill and the answers before it, and all are judged together. The data's source has one line an
answer, also where it needs several skills, so that no answer stands right before itself. The rival is a kept figure,
not run here: DKVMN (arXiv 1611.08108, table 2), AUC .8157, all five folds. The share of right answers of each skill is
run on the same rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run

RIVAL = 0.8157
LENGTH = 200

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 96, "layers": 2, "heads": 4, "dropout": 0.2},
    "columns": {"answers": {"type": "trace", "length": LENGTH, "ask": "correct", "dropout": 0.2}},
    "train": {"tensorboard": False},
    "finetune": {"documents": 64, "steps": 600},
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Pieces of histories, with their part."""
    answers, split = [], []
    for part in ("train", "val", "test"):
        for line in (folder / f"{part}.jsonl").read_text().splitlines():
            row = json.loads(line)
            for first in range(0, len(row["skills"]), LENGTH):
                piece = slice(first, first + LENGTH)
                answers.append({"skill": row["skills"][piece], "correct": row["correct"][piece]})
                split.append(part)
    return {"answers": answers, "split": split}


def compare(run: Run) -> Figures:
    from onetrunk.data.split import Split
    from onetrunk.data.table import Table
    from onetrunk.evaluation.baselines import run_baselines
    from onetrunk.evaluation.intervals import interval, metric_draws
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.open_data import Data, types_and_options
    from onetrunk.training.stage import new_model

    config, _ = run.config(SETTINGS)
    columns = read(run.data())
    part = np.array(columns.pop("split"))
    split = Split(*(np.flatnonzero(part == name) for name in ("train", "val", "test")), "as the source's fold 1")
    table = Table(columns, run.name)
    data = Data(table, *types_and_options(table, config, None), [], ["answers"], {}, split)
    model = new_model(data, config, run.seed)
    model = finetune_model(data, run.context(config, run.place), model, pretrained=False).model
    made = model.provenance["stages"][-1]

    evaluation, held = model.evaluation("answers"), data.rows(run.split)["answers"]
    answers = model.answer({"answers": held}, "answers", [])
    metrics = evaluation.measure(answers, held)
    draws = metric_draws(
        lambda index: evaluation.measure([answers[i] for i in index], [held[i] for i in index])["auc"],
        len(held),
        100,
        run.seed,
    )
    ends = interval(metrics["auc"], draws)
    train = data.rows("train")["answers"]
    rivals = run_baselines({}, evaluation, {}, {}, train, held, seconds=3600) if run.rival else {}
    return Figures(
        ours=metrics["auc"],
        interval=[ends.low, ends.high],
        unit="AUC",
        rival_name="DKVMN (kept figure)",
        rival=RIVAL if run.rival else None,
        split={"part": run.split, "rows": {name: len(index) for name, index in split.indices().items()}},
        also={
            "metrics": metrics,
            "answers_judged": sum(len(row["correct"]) for row in held),
            "rivals": {name: rival.metrics for name, rival in rivals.items()},
            "training_seconds": made["seconds"],
            "steps": made["steps"],
        },
    )
