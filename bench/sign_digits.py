"""sign_digits: which digit does the hand show? 560 training photographs; against logistic regression on pixels.

    python -m bench sign_digits      about 8 minutes on 2 cores

Accuracy on 160 photographs, 100 × 100, of hands that show 0 to 9. The data do not say whose hand it is, so one person's
may stand in several parts.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 1, "heads": 4},
    "columns": {
        "image": {"type": "image", "size": 64, "patch": 16, "stem": 32, "flip": True, "erase": 0.25},
        "label": {"type": "category", "smoothing": 0.1},
    },
    "train": {"lr": 2e-3, "precision": "bf16", "tensorboard": False},
    "pretrain": {
        "steps": 200,
        "objectives": [
            {"kind": "contrast", "documents": 32, "weight": 0.5},
            {"kind": "masked", "documents": 16},
            {"kind": "predict", "documents": 32},
        ],
    },
    "finetune": {"documents": 56, "epochs": 40, "rate": 1.0},
}


def rival() -> Any:
    """Logistic regression on 24 × 24 pixels, grey."""
    from sklearn.linear_model import LogisticRegression

    from bench.tables import pixels

    return pixels("image", 24, "L", LogisticRegression(C=1.0, max_iter=2000))


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes

    return compare_classes(run, SETTINGS, ask="label", metric="accuracy", rival=Rival("logistic regression", rival))
