"""fsdd: which digit is spoken? 780 training clips of 6 speakers; against logistic regression on 12-frame spectra.

    python -m bench fsdd      about 6 minutes on 2 cores

Accuracy on 300 other takes of the same speakers. `fsdd_speakers` leaves speakers out.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4, "dropout": 0.1},
    "columns": {"audio": {"type": "audio"}, "digit": {"type": "category", "smoothing": 0.05}},
    "train": {"lr": 2e-3, "tensorboard": False},
    "pretrain": {
        "steps": 200,
        "objectives": [
            {"kind": "contrast", "documents": 32, "weight": 0.3},
            {"kind": "masked", "documents": 32},
            {"kind": "predict", "documents": 64},
        ],
    },
    "finetune": {"documents": 64, "steps": 400, "rate": 1.0},
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Recordings, digits, speakers and the part of each."""
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        "audio": [folder / row["file"] for row in rows],
        "digit": [int(row["digit"]) for row in rows],
        "speaker": [row["speaker"] for row in rows],
        "split": [row["split"] for row in rows],
    }


def rival() -> Any:
    """Logistic regression on 12 frames of the log spectrum, as the data's own baseline figures were made."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    spectra = FunctionTransformer(lambda frame: np.stack([spectrum(path) for path in frame["audio"]]))
    return make_pipeline(spectra, StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))


def spectrum(path: Path, frames: int = 12, bands: int = 32) -> np.ndarray:
    """Log power of a recording in as many frames, whatever its length, and bands of equal width."""
    import soundfile

    samples, _ = soundfile.read(path)
    pieces = np.array_split(samples, frames)
    power = [np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 1024)[1:]) ** 2 / len(piece) for piece in pieces]
    return np.log(np.array(power).reshape(frames, bands, -1).mean(2) + 1e-8).ravel()


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes

    return compare_classes(
        run, SETTINGS, ask="digit", metric="accuracy", rival=Rival("12-frame spectra, LR", rival),
        ignore=["speaker"], read=read,
    )  # fmt: skip
