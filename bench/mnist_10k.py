"""Handwritten digits, 7,000 labelled images of 28 x 28; accuracy against logistic regression on the pixels.

python -m bench mnist_10k      about 20 minutes on 2 cores; expected: .98 or more (logistic regression .923)
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run
from bench.tables import compare_classes, pixels

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "train": {"tensorboard": False},
    "pretrain": {"steps": 1000},
    "finetune": {"documents": 128, "steps": 1000},
}


def compare(run: Run) -> Figures:
    return compare_classes(
        run,
        SETTINGS,
        ask="label",
        metric="accuracy",
        read=read,
        rival_name="logistic regression on pixels",
        rival=pixels("image"),
    )


def read(folder: Path) -> Any:
    """The idx file's images (http://yann.lecun.com/exdb/mnist: 16 bytes of header, then pixels), labels and parts."""
    from onetrunk.data.table import Table

    packed = (folder / "t10k-images-idx3-ubyte.gz").read_bytes()
    images = np.frombuffer(gzip.decompress(packed), dtype=np.uint8, offset=16).reshape(-1, 28, 28)
    with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    columns = {
        "image": list(images),
        "label": [int(row["label"]) for row in rows],
        "split": [row["split"] for row in rows],
    }
    return Table(columns, "mnist_10k")
