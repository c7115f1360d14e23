"""Root mean square layer normalisation (arXiv 1910.07467)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Under autocast weights stay float32: PyTorch then says that it takes no fused kernel, which a CPU does not have.
warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)


class RMSNorm(nn.RMSNorm):
    """x [..., D] to the same shape: x / sqrt(mean(x²) + eps) · weight; under autocast in its type.

    A CPU has no kernel of it, and the dozen operations of its formula and of their gradients are a fifth of a training
    step: there it is computed in half as many.
    """

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        if device != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x).to(dtype)
        return _RMS.apply(x, self.weight, self.eps, dtype)


class _RMS(torch.autograd.Function):
    """Computes in at least float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        wide, scale = _scale(x, weight, eps)
        return (wide * scale).mul_(weight).to(dtype).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wide, scale = _scale(x, weight, ctx.eps)
        dy = dy.reshape(wide.shape).to(wide.dtype)
        both = dy * wide
        dweight = both.mT.mv(scale[:, 0])
        along = both.mv(weight.to(wide.dtype))[:, None].mul_(scale.pow(3)).div_(-wide.shape[1])
        dx = (dy * weight).mul_(scale).addcmul_(wide, along)
        return dx.to(x.dtype).view_as(x), dweight.to(weight.dtype), None, None


def _scale(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x as rows [n, D], and what each is multiplied with [n, 1]."""
    wide = x.reshape(-1, x.shape[-1]).to(torch.promote_types(weight.dtype, torch.float32))
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return wide, (length.square() / wide.shape[1] + eps).rsqrt_()
