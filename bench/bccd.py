"""bccd: blood cells found in 72 photographs, from 205 with 2,804 boxes, from scratch; mAP@.5.

    python -m bench bccd      about 6 minutes on 2 cores

The rival, a YOLOv8n that was pretrained on COCO, is a figure from the literature: it is not run here. `also` holds a
rival that is: each class's usual boxes, the same in every picture.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.common import Figures, Run

PRETRAINED_YOLOV8N = 0.893  # mAP@.5

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4},
    "columns": {
        "image": {
            "size": 256, "patch": 16, "stem": 16,
            "rotate": 0.0, "scale": 0.3, "shift": 0.15, "light": 0.15, "flip": True, "turn": True,
        },
        "boxes": {"cells": 2},
    },
    "finetune": {"documents": 16, "steps": 600},
    "train": {"lr": 2e-3, "muon_lr": 0.02, "weight_decay": 0.05, "precision": "bf16", "schedule": "cosine"},
}  # fmt: skip


def compare(run: Run) -> Figures:
    from onetrunk.columns.boxes.baselines import UsualBoxes
    from onetrunk.evaluation import intervals
    from onetrunk.metrics.detection import average_precision, precision_recall
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.stage import new_model

    config, _ = run.config(SETTINGS)
    data = run.open(run.data(), config, ask=["boxes"], given=["image"])
    start = time.monotonic()
    model = new_model(data, config, run.seed)
    tuned = finetune_model(data, run.context(config, run.place / "bccd"), model, pretrained=False)
    model, decision = tuned.model, tuned.choice
    seconds = time.monotonic() - start
    test, train = data.rows(run.split), data.rows("train")
    truths = test["boxes"]
    answers = [a.value for a in model.answer(test, "boxes", ["image"])]
    usual = UsualBoxes().fit(np.zeros((len(train), 1)), model.evaluation("boxes").target(train["boxes"]))
    naive = usual.predict(np.zeros((len(test), 1)))

    def at(index: np.ndarray) -> float | None:
        return average_precision([truths[i] for i in index], [answers[i] for i in index])["mAP@.5"]

    precision = average_precision(truths, answers)
    draws = intervals.metric_draws(at, len(test), seed=run.seed)
    between = intervals.interval(precision["mAP@.5"], draws)
    return Figures(
        ours=precision["mAP@.5"],
        interval=[between.low, between.high],
        unit="mAP@.5",
        rival_name="a pretrained YOLOv8n (a figure from the literature, not run here)",
        rival=PRETRAINED_YOLOV8N if run.rival else None,
        split={"part": run.split, "pictures": {name: len(index) for name, index in data.split.indices().items()}},
        also={
            "mAP@[.5:.95]": precision["mAP@[.5:.95]"],
            "AP@.5": {name: float(p.mean()) for name, p in precision_recall(truths, answers)[1].items()},
            "usual boxes": average_precision(truths, naive),
            "training_minutes": seconds / 60,
            "chosen_by_validation": decision.validation,
        },
    )
