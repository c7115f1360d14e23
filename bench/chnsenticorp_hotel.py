"""chnsenticorp_hotel: is a Chinese hotel review good or bad? Against character TF-IDF.

    python -m bench chnsenticorp_hotel      about 12 minutes on 2 cores

7,765 reviews; accuracy on the test split. Both see characters and pairs of neighbours.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 96, "layers": 2, "heads": 4, "dropout": 0.1},
    "columns": {
        "review": {"type": "text", "unit": "character", "bigrams": 65_536, "word_dropout": 0.5, "length": 320},
        "label": {"type": "category", "dropout": 0.3},
    },
    "train": {"muon_lr": 0.005, "tensorboard": False},
    "pretrain": {
        "steps": 200,
        "objectives": [{"kind": "masked", "documents": 48}, {"kind": "predict", "documents": 32}],
    },
    "finetune": {"documents": 64, "epochs": 4, "rate": 1.0},
    "ensemble": 3,
}


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes, tf_idf

    return compare_classes(
        run,
        SETTINGS,
        ask="label",
        metric="accuracy",
        rival=Rival("TF-IDF + logistic regression", lambda: tf_idf("review", analyzer="char")),
    )
