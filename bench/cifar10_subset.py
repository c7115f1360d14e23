"""cifar10_subset: what is in the picture? 8,000 training images, 32 × 32; against gradient boosting on pixels.

    python -m bench cifar10_subset      about 10 minutes on 2 cores

Accuracy on 2,000 of CIFAR-10's test images; ten classes, from airplane to truck.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 1, "heads": 4},
    "columns": {
        "image": {"type": "image", "patch": 8, "stem": 64, "flip": True, "erase": 0.25, "rotate": 8, "scale": 0.1},
        "label": {"type": "category", "smoothing": 0.1},
    },
    "train": {"lr": 2e-3, "precision": "bf16", "tensorboard": False},
    "pretrain": {
        "steps": 200,
        "objectives": [
            {"kind": "contrast", "documents": 64, "weight": 0.5},
            {"kind": "masked", "documents": 32},
            {"kind": "predict", "documents": 64},
        ],
    },
    "finetune": {"documents": 128, "epochs": 16, "rate": 1.0},
}


def rival() -> Any:
    """Gradient boosting on pixels, their mean over 2 × 2."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from bench.tables import pixels

    return pixels("image", 16, "RGB", HistGradientBoostingClassifier(random_state=0))


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes

    return compare_classes(
        run, SETTINGS, ask="label", metric="accuracy", rival=Rival("gradient boosting", rival), ignore=["path"]
    )
