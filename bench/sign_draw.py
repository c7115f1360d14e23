"""sign_draw: hands drawn from the digit's name, a text, at 32 × 32 in colour; against real photographs.

    python -m bench sign_draw      about 8 minutes on 2 cores

The model learns from sign_digits' 560 training photographs. See `draw` for the judge and the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.common import Figures, Run, data_folder
from onetrunk.training.digits import WORDS

SIDE = 32
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4},
    "columns": {
        "image": {"type": "image", "size": SIDE, "patch": 4, "stem": 0},
        "word": {"type": "text", "unit": "character"},
    },
    "train": {"lr": 2e-3, "ema": 0.995, "tensorboard": False},
    "finetune": {"documents": 48, "steps": 1200},
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Photographs brought to 32 × 32, the word for what each hand shows, and its part."""
    import numpy as np
    from PIL import Image

    from onetrunk.media.image import open_image

    files = sorted(folder.glob("*/*/*.JPG"))
    small = [open_image(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for path in files]
    return {
        "image": [np.asarray(image) for image in small],
        "word": [WORDS[int(path.parent.name)] for path in files],
        "split": [path.parent.parent.name for path in files],
    }


def compare(run: Run) -> Figures:
    from bench.draw import compare_drawings

    rows = read(data_folder("sign_digits"))
    return compare_drawings(run, SETTINGS, rows, "word", WORDS, "real photographs")
