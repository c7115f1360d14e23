"""Dropout (JMLR 15, 2014)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from onetrunk.core.kernels import by_hand

_CHANCES = 1 << 16  # of which a draw of 16 bits is one


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """x, of any shape; in training a random share `p` of its numbers is 0, and the others are divided by 1 - p.

    On a CPU, which draws one number after the other, four numbers share a draw of 64 bits (so that p is rounded to 16):
    PyTorch's draws are a fifth of a small trunk's training step.
    """
    if not training or p == 0 or not by_hand(x):
        return F.dropout(x, p, training)
    return _Dropout.apply(x, p)


class Dropout(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


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
