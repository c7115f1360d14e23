"""shakespeare_best: tinyshakespeare to the validation loss that nanoGPT reaches on an A100 (1.4697), in minutes.

    python -m bench shakespeare_best      about 14 minutes on 2 cores

The rival is a kept figure: nanoGPT's README, `config/train_shakespeare_char.py` (10.7M parameters, 3 minutes).

Text that is read several times is learnt by heart: weights that decay ten times as fast as usual and more do better
against it than dropout (arXiv 2509.14786), here on the last 6 % of the training text.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run, data_folder

RIVAL = 1.4697

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 256, "layers": 6, "heads": 4, "activation": "relu2"},
    "columns": {"text": {"type": "text", "unit": "character", "length": 256, "bigrams": 8192}},
    "train": {"lr": 0.005, "muon_lr": 0.01, "weight_decay": 0.8, "tensorboard": False},
    "pretrain": {"steps": 1300, "objectives": [{"kind": "predict", "documents": 16}]},
}


def compare(run: Run) -> Figures:
    from bench.speed import alternate, in_fast_precision

    config, _ = run.config(in_fast_precision(SETTINGS))
    folder = str(data_folder("tinyshakespeare"))
    side = {"call": "bench.shakespeare:learn", "folder": folder, "settings": config.model_dump()}
    (one,) = alternate(run, {"ours": side}, 1)["ours"]
    return Figures(
        ours=one["loss"],
        interval=None,
        unit="nats a character (less is better)",
        rival_name="nanoGPT on an A100 (kept figure)",
        rival=RIVAL if run.rival else None,
        split={"part": "val.txt", "precision": config.train.precision},
        also={"minutes": one["whole_seconds"] / 60, "reached": one["loss"] <= RIVAL, **one},
    )
