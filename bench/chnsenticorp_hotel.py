"""Chinese hotel reviews, good or bad; accuracy against TF-IDF with logistic regression.

python -m bench chnsenticorp_hotel      about 20 minutes on 2 cores; expected: above .893
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run
from bench.tables import compare_classes, tfidf

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "columns": {"review": {"type": "text", "unit": "character", "length": 192, "drop": 0.2}},
    "train": {"tensorboard": False},
    "pretrain": {"steps": 1000},
    "finetune": {"documents": 64, "steps": 600},
}


def compare(run: Run) -> Figures:
    return compare_classes(
        run,
        SETTINGS,
        ask="label",
        metric="accuracy",
        rival_name="TF-IDF of characters and their pairs, logistic regression",
        rival=tfidf("review", analyzer="char"),
    )
