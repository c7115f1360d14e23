"""lm_768: training a causal language model of 12 layers x 768, tokens/s; against Hugging Face's Trainer.

    python -m bench lm_768      about 25 minutes on 2 cores

The rival trains GPT-2 of the same shape with AdamW, eager, as is its default. Ours: the same steps through our trainer,
compiled, as is its default in runs of ten minutes. Both in bf16 where the processor is fast in it, else in fp32. Beside
them ours eager, the rival's compiled, ours with Muon, and the rival's in fp32.
Random tokens: speed does not depend on what they say. MFU and the peak of memory stand beside the speed.
"""

from __future__ import annotations

from bench.common import Figures, Run

SHAPE = {"width": 768, "layers": 12, "heads": 12, "vocabulary": 32_000}


def compare(run: Run) -> Figures:
    from bench.speed import compare_training

    return compare_training(run, SHAPE, batch=8, length=512, steps=6, rounds=3)
