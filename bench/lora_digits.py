"""lora_digits: LoRA against whole fine-tuning and read-out only, from one model pretrained on 8 × 8 digits.

    python -m bench lora_digits      about 8 minutes on 2 cores

scikit-learn's digits, 80/10/10; pretraining sees the training part's images without labels. Accuracy on the test split,
trained parameters, seconds and peak memory of each way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 96, "layers": 4, "heads": 4},
    "columns": {"image": {"type": "image", "patch": 2}, "label": {"type": "category"}},
    "train": {"tensorboard": False},
    "pretrain": {
        "steps": 300,
        "objectives": [{"kind": "contrast", "documents": 64, "weight": 0.3}, {"kind": "masked", "documents": 64}],
    },
    "finetune": {"documents": 64, "steps": 300},
}


def table() -> dict[str, list[Any]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).astype(np.uint8)
    return {"image": list(images), "label": digits.target.tolist()}


def compare(run: Run) -> Figures:
    from bench.adaptation import compare_ways

    return compare_ways(run, SETTINGS, table(), ask="label", lora={"lora": {"rank": 8}}, split="stratified:80/10/10")
