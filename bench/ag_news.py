"""ag_news: which of 4 topics, from 4,500 labelled news items? Against word TF-IDF.

    python -m bench ag_news      about 8 minutes on 2 cores

Accuracy on the official test file (7,600 items).
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 96, "layers": 2, "heads": 4, "dropout": 0.1},
    "columns": {
        "text": {"type": "text", "vocabulary": 4000, "bigrams": 65_536, "word_dropout": 0.6, "length": 128},
        "label": {"type": "category", "dropout": 0.3},
    },
    "train": {"muon_lr": 0.005, "tensorboard": False},
    "pretrain": {
        "steps": 300,
        "objectives": [{"kind": "masked", "documents": 48}, {"kind": "predict", "documents": 32}],
    },
    "finetune": {"documents": 64, "epochs": 3, "rate": 1.0},
    "ensemble": 3,
}


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes, tf_idf

    return compare_classes(
        run,
        SETTINGS,
        ask="label",
        metric="accuracy",
        rival=Rival("TF-IDF + logistic regression", lambda: tf_idf("text")),
    )
