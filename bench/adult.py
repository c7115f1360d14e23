"""Census income above 50K from 14 columns of numbers and classes; AUC against gradient boosting.

python -m bench adult      about 15 minutes on 2 cores; expected: .92 or more (gradient boosting .926)
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run
from bench.tables import boosting, compare_classes

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "train": {"tensorboard": False},
    "pretrain": {
        "steps": 1000,
        "objectives": [{"kind": "predict", "documents": 256}, {"kind": "masked", "documents": 128}],
    },
    "finetune": {"documents": 256, "steps": 1200},
}


def compare(run: Run) -> Figures:
    return compare_classes(run, SETTINGS, ask="income", metric="auc", rival_name="gradient boosting", rival=boosting())
