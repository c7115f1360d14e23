"""lm_384: training a causal language model of 6 layers x 384, tokens/s; against Hugging Face's Trainer.

    python -m bench lm_384      about 8 minutes on 2 cores

The rival trains GPT-2 of the same shape with AdamW, eager, as is its default. Ours: the same steps through our trainer,
compiled, as is its default in runs of ten minutes. Both in bf16 where the processor is fast in it, else in fp32. Beside
them ours eager, the rival's compiled, ours with Muon, and the rival's in fp32.
Random tokens: speed does not depend on what they say. MFU and the peak of memory stand beside the speed.
"""

from __future__ import annotations

from bench.common import Figures, Run

SHAPE = {"width": 384, "layers": 6, "heads": 6, "vocabulary": 65}


def compare(run: Run) -> Figures:
    from bench.speed import compare_training

    return compare_training(run, SHAPE, batch=16, length=256, steps=12, rounds=5)
