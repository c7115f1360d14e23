"""lm_768_gpu: training a causal language model of 12 layers x 768 on a GPU, tokens/s; against Hugging Face's Trainer.

    python -m bench lm_768_gpu          about 5 minutes on one CUDA device; elsewhere it says that there is none
    python -m bench lm_768_gpu --quick  the same code on whatever device there is, with a small model

As `lm_768`: the rival trains GPT-2 of the same shape with AdamW, eager, as is its default; ours is compiled. Beside
them ours eager, the rival's compiled, ours with Muon, and the rival's in fp32; nanoGPT, too, where ONETRUNK_NANOGPT
names a checkout of it. `machine` names the card.
"""

from __future__ import annotations

import os

from bench.common import AbsentData, Figures, Run
from bench.lm_768 import SHAPE

QUICK = ["size=quick"]
_SMALL = {"width": 32, "layers": 1, "heads": 2, "vocabulary": 60}


def compare(run: Run) -> Figures:
    import torch

    from bench.speed import compare_training

    device = "cuda" if torch.cuda.is_available() else "cpu"
    nanogpt = os.environ.get("ONETRUNK_NANOGPT") or None
    if run.settings == QUICK:
        return compare_training(run, _SMALL, batch=2, length=16, steps=8, rounds=1, device=device, nanogpt=nanogpt)
    if device == "cpu":
        raise AbsentData("There is no CUDA device here.")
    return compare_training(run, SHAPE, batch=32, length=512, steps=60, rounds=2, device=device, nanogpt=nanogpt)
