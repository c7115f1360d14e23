"""English news in 4 topics, 4,500 labelled rows; accuracy against TF-IDF with logistic regression.

python -m bench ag_news      about 15 minutes on 2 cores; expected: above .874
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run
from bench.tables import compare_classes, tfidf

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "columns": {"text": {"type": "text", "length": 96, "drop": 0.2}},
    "train": {"tensorboard": False},
    "pretrain": {"steps": 1000},
    "finetune": {"documents": 64, "steps": 500},
}


def compare(run: Run) -> Figures:
    return compare_classes(
        run,
        SETTINGS,
        ask="label",
        metric="accuracy",
        rival_name="TF-IDF of words and their pairs, logistic regression",
        rival=tfidf("text"),
    )
