"""shakespeare_time: seconds of a whole process to nanoGPT's CPU loss on tinyshakespeare (1.8857); against nanoGPT.

    python -m bench shakespeare_time      about 4 minutes on 2 cores
    NANOGPT=../nanoGPT python -m bench shakespeare_time      runs a clone of nanoGPT beside ours

Ours starts Python, reads the text, trains, and takes the loss over the whole validation part: one layer x 128, with
vectors of pairs of neighbours, about as many steps as reach the loss. The rival is nanoGPT's README run
(`config/train_shakespeare_char.py` for a CPU: 4 layers x 128, 64 characters, 12 x 2,000 steps). Without a clone its
time is derived, not run: it took 77 s where HF Trainer made 19,800 tokens/s on the same model, and HF Trainer is run
here.
"""

from __future__ import annotations

import os
from typing import Any

from bench.common import Figures, Run, data_folder

TARGET = 1.8857  # nanoGPT's validation loss after its 2,000 steps
KNOWN_SECONDS, KNOWN_TOKENS_PER_S = 77.0, 19_800.0
SHAPE = {"width": 128, "layers": 4, "heads": 4, "vocabulary": 65}

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 1, "heads": 4, "activation": "relu2"},
    "columns": {"text": {"type": "text", "unit": "character", "length": 64, "bigrams": 8192}},
    "train": {
        "lr": 0.01,
        "muon_lr": 0.01,
        "warmup": 0.0,
        "weight_decay": 0.0,
        "tensorboard": False,
    },
    "pretrain": {"steps": 355, "objectives": [{"kind": "predict", "documents": 8}]},
}


def compare(run: Run) -> Figures:
    from bench.speed import alternate, figures, in_fast_precision, median, versions

    config, _ = run.config(in_fast_precision(SETTINGS))
    folder = str(data_folder("tinyshakespeare"))
    sides = {"ours": {"call": "bench.shakespeare:learn", "folder": folder, "settings": config.model_dump()}}
    clone = os.environ.get("NANOGPT")
    if run.rival and clone:
        sides["nanoGPT"] = {"call": "bench.shakespeare:nanogpt", "folder": folder, "clone": clone}
    elif run.rival:
        sides["HF Trainer"] = {
            "call": "bench.peers:gpt2", "shape": SHAPE, "batch": 12, "length": 64, "steps": 200, "bf16": False,
        }  # fmt: skip
    seconds = alternate(run, sides, 3)
    rival_name = "nanoGPT's CPU run"
    if run.rival and not clone:
        rate = median(seconds["HF Trainer"], "tokens_per_s")
        rival_name += f" ({KNOWN_SECONDS:.0f} s, scaled by HF Trainer's speed here: not run)"
        derived = KNOWN_SECONDS * KNOWN_TOKENS_PER_S / rate
        for one in seconds["HF Trainer"]:
            one["whole_seconds"] = derived
    if run.rival:
        seconds = {"ours": seconds["ours"], rival_name: seconds.popitem()[1]}
    loss = max(one["loss"] for one in seconds["ours"])
    return figures(
        seconds,
        "whole_seconds",
        "seconds (less is better)",
        faster_is_more=False,
        split={"part": "val.txt", "target": TARGET, "precision": config.train.precision},
        loss=loss,
        reached=loss <= TARGET,
        peers=versions("transformers", "accelerate"),
    )
