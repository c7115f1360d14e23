"""Dropout (JMLR 15, 2014) with cheaper random numbers: PyTorch's are a fifth of a small trunk's training step.

A CPU draws one number after the other: four numbers share a draw of 64 bits, so that p is rounded to 16 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from onetrunk.nn.autograd import apply_function

_CHANCES = 1 << 16  # of which a draw of 16 bits is one


def dropout(x: Tensor, p: float) -> Tensor:
    """x, of any shape: a random share `p` of its numbers is 0, and the others are divided by 1 - p."""
    return apply_function(_Dropout, x, p)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        lost = min(round(p * _CHANCES), _CHANCES - 1)
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        kept = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= lost - _CHANCES // 2
        ctx.scale = _CHANCES / (_CHANCES - lost)
        ctx.save_for_backward(kept)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (dy * kept).mul_(ctx.scale), None
