"""heart_cleveland: heart disease or not, from 212 patients? Against gradient boosting.

    python -m bench heart_cleveland      about 2 minutes on 2 cores

AUC on 61 patients: the intervals are wide. `num` is the answer in finer steps and left out.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 64, "layers": 2, "heads": 4, "dropout": 0.2},
    "columns": {"target": {"type": "category", "dropout": 0.3}},
    "train": {"tensorboard": False},
    "pretrain": {
        "steps": 200,
        "objectives": [{"kind": "masked", "documents": 64}, {"kind": "predict", "documents": 64}],
    },
    "finetune": {"documents": 32, "steps": 100, "metric": "auc"},
    "ensemble": 5,
}


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes, gradient_boosting

    return compare_classes(
        run, SETTINGS, ask="target", metric="auc", rival=Rival("gradient boosting", gradient_boosting), ignore=["num"]
    )
