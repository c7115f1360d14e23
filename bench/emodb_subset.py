"""emodb_subset: which of 7 emotions? 79 training clips of 6 speakers, judged on 2 others; against the same spectra.

    python -m bench emodb_subset      about 5 minutes on 2 cores

Accuracy on 28 clips of 2 speakers: each clip is 3.6 points.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from bench.common import Figures, Run
from bench.fsdd import rival

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 96, "layers": 3, "heads": 4, "dropout": 0.2},
    "columns": {"audio": {"type": "audio", "rate": 16000}, "emotion": {"type": "category", "smoothing": 0.1}},
    "train": {"lr": 2e-3, "tensorboard": False},
    "pretrain": {
        "steps": 150,
        "objectives": [
            {"kind": "contrast", "documents": 24, "weight": 0.3},
            {"kind": "masked", "documents": 24},
            {"kind": "predict", "documents": 24},
        ],
    },
    "finetune": {"documents": 32, "steps": 200, "rate": 1.0},
    "ensemble": 3,
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Recordings, emotions and the part of each."""
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        "audio": [folder / row["file"] for row in rows],
        "emotion": [row["emotion"] for row in rows],
        "split": [row["split"] for row in rows],
    }


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes

    return compare_classes(
        run, SETTINGS, ask="emotion", metric="accuracy", rival=Rival("12-frame spectra, LR", rival), read=read
    )
