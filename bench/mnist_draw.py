"""mnist_draw: digits drawn from their label, 28 × 28; read by a classifier of real digits, against real digits.

    python -m bench mnist_draw      about 8 minutes on 2 cores

The model learns from mnist_10k's 7,000 training digits. See `draw` for the judge and the picture.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run, data_folder

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4},
    "columns": {"image": {"type": "image", "patch": 4, "stem": 0}, "label": {"type": "category"}},
    "train": {"lr": 2e-3, "ema": 0.995, "tensorboard": False},
    "finetune": {"documents": 96, "steps": 1000},
}


def compare(run: Run) -> Figures:
    from bench.draw import compare_drawings
    from bench.mnist_10k import read

    rows = read(data_folder("mnist_10k"))
    return compare_drawings(run, SETTINGS, rows, "label", range(10), "real digits")
