"""adult: does a person earn over 50,000 a year? Against gradient boosting.

    python -m bench adult      about 10 minutes on 2 cores

AUC on the official test part (16,281 people).
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 64, "layers": 3, "heads": 4},
    "columns": {"income": {"type": "category", "dropout": 0.1}},
    "train": {"lr": 2e-3, "muon_lr": 0.005, "tensorboard": False},
    "pretrain": {
        "steps": 500,
        "objectives": [{"kind": "masked", "documents": 192}, {"kind": "predict", "documents": 128}],
    },
    "finetune": {"documents": 256, "epochs": 6, "metric": "auc"},
    "ensemble": 3,
}


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes, gradient_boosting

    return compare_classes(
        run, SETTINGS, ask="income", metric="auc", rival=Rival("gradient boosting", gradient_boosting)
    )
