"""mnist_10k: which digit is written? 7,000 training images; against logistic regression on pixels.

    python -m bench mnist_10k      about 12 minutes on 2 cores

Accuracy on 2,000 images of MNIST's test file.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import FunctionTransformer

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 2, "heads": 4, "dropout": 0.1},
    "columns": {
        "image": {"type": "image", "size": 32, "patch": 8, "stem": 24},
        "label": {"type": "category", "dropout": 0.2},
    },
    "train": {"muon_lr": 0.01, "tensorboard": False},
    "pretrain": {
        "steps": 200,
        "objectives": [
            {"kind": "contrast", "documents": 48, "weight": 0.5},
            {"kind": "masked", "documents": 32},
            {"kind": "predict", "documents": 64},
        ],
    },
    "finetune": {"documents": 64, "epochs": 16, "rate": 1.0},
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Images, labels and the part of each."""
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read()[16:], dtype=np.uint8).reshape(-1, 28, 28)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read()[8:], dtype=np.uint8)
    with (folder / "split.csv").open(encoding="utf-8") as file:
        part = {int(row["index"]): row["split"] for row in csv.DictReader(file)}
    return {"image": list(images), "label": labels.tolist(), "split": [part[i] for i in range(len(images))]}


def rival() -> Any:
    """Logistic regression on pixels; this penalty gives the .923 of the data's README, a weaker one less."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pixels = FunctionTransformer(lambda frame: np.stack(list(frame["image"])).reshape(len(frame), -1) / 255.0)
    return make_pipeline(pixels, LogisticRegression(C=0.15, max_iter=300))


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes

    return compare_classes(
        run, SETTINGS, ask="label", metric="accuracy", rival=Rival("logistic regression", rival), read=read
    )
