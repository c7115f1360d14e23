"""easyvqa: a picture and a question, which of 13 answers? Against the most frequent answer.

    python -m bench easyvqa      about 25 minutes on 2 cores

Accuracy on 2,948 questions about 300 pictures of the official test part. Pictures are computer-drawn shapes and
questions are templates. Nothing here is made for it: an image column and a text column are given, a category is asked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 3, "heads": 4},
    "columns": {
        "image": {"type": "image", "size": 64, "patch": 16, "stem": 16, "rotate": 0, "scale": 0, "shift": 0.05},
        "question": {"type": "text", "length": 24},
        "answer": {"type": "category"},
    },
    "train": {"tensorboard": False},
    "pretrain": {
        "steps": 400,
        "objectives": [{"kind": "predict", "documents": 64}, {"kind": "contrast", "documents": 64}],
    },
    "finetune": {"documents": 128, "steps": 1600, "rate": 1.0},
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Questions, their pictures and answers, with their part."""
    rows = [
        {**json.loads(line), "split": part}
        for part in ("train", "val", "test")
        for line in (folder / f"{part}.jsonl").read_text().splitlines()
    ]
    columns = {name: [row[name] for row in rows] for name in ("question", "answer", "split")}
    return {"image": [str(folder / row["image"]) for row in rows], **columns}


def majority() -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes

    rival = Rival("most frequent answer", majority)
    return compare_classes(run, SETTINGS, ask="answer", metric="accuracy", rival=rival, read=read)
