"""Heart disease from 13 findings of 303 patients; AUC against gradient boosting.

    python -m bench heart_cleveland      some minutes on 2 cores; expected: an interval that reaches .948 (61 test rows)

`num`, the disease's degree, tells the answer and is left out.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run
from bench.tables import boosting, compare_classes

SETTINGS: dict[str, Any] = {
    "size": "nano",
    "ensemble": 5,
    "train": {"tensorboard": False},
    "pretrain": {
        "steps": 300,
        "objectives": [{"kind": "predict", "documents": 128}, {"kind": "masked", "documents": 64}],
    },
    "finetune": {"documents": 64, "steps": 100},
}


def compare(run: Run) -> Figures:
    return compare_classes(
        run,
        SETTINGS,
        ask="target",
        metric="auc",
        ignore=["num"],
        rival_name="gradient boosting",
        rival=boosting(),
    )
