"""relu(x)² (Primer, arXiv 2109.08668). Its gradient 2 relu(x) dy is two operations; PyTorch's formulas make six."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from onetrunk.nn.autograd import apply_function


def squared_relu(x: Tensor) -> Tensor:
    """x, of any shape."""
    return apply_function(_SquaredReLU, x)


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = F.relu(x)
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (dy * x).mul_(2)
