"""private_mnist: which digit is written, learnt with differential privacy (epsilon 3, delta 1e-5) from 7,000 pictures?

    python -m bench private_mnist      some minutes on 1 core

Accuracy on 2,000 pictures of MNIST's test file, with no settings of its own; wanted are .90. The rival is Opacus with
the small convolutional network of its own example, on the same rows with the same promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from bench.common import Figures, Run, data_folder
from bench.mnist_10k import read
from bench.private_rows import MAIN, Rival, compare_private
from onetrunk.training.open_data import Data

SETTINGS: dict[str, Any] = {"columns": {"image": {"type": "image"}, "label": {"type": "category"}}}
QUICK = ["finetune.steps=2"]


def compare(run: Run) -> Figures:
    rival = Rival("a small convolutional network", lambda inputs: _network(), _pixels, rate=0.25, rows=512, epochs=15)
    return compare_private(run, read(data_folder("mnist_10k")), SETTINGS, "label", [MAIN], rival)


def _pixels(data: Data, part: str) -> Sequence[np.ndarray]:
    pictures = (np.stack(list(data.rows(name)["image"])) for name in ("train", part))
    return [each[:, None].astype(np.float32) / 255 - 0.1307 for each in pictures]


def _network() -> nn.Module:
    """Of Opacus' MNIST example: 26,010 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
