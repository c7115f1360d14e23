"""Root mean square layer normalisation (arXiv 1910.07467), in tiles that stay in the cache.

A CPU has no kernel of it, and the dozen operations of its formula and of their gradients are a fifth of a training
step. Its gradient is by the kernel of layer normalisation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from onetrunk.nn.autograd import apply_function

_TILE = 1 << 18  # numbers


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x [..., D] to the same shape, of the type `dtype`: x / sqrt(mean(x²) + eps) · weight."""
    return apply_function(_RMSNorm, x, weight, eps, dtype)


class _RMSNorm(torch.autograd.Function):
    """Computes in at least float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        weight = weight.to(torch.promote_types(x.dtype, torch.float32))
        y, scale = rows.new_empty(rows.shape, dtype=dtype), weight.new_empty(len(rows), 1)
        several = max(1, _TILE // rows.shape[1])
        for tile, tile_y, tile_scale in zip(*(of.split(several) for of in (rows, y, scale)), strict=True):
            wide = tile.to(weight.dtype)
            square = torch.linalg.vector_norm(wide, dim=1, keepdim=True).square_()
            tile_scale.copy_(square.div_(rows.shape[1]).add_(eps).rsqrt_())
            tile_y.copy_((wide * tile_scale).mul_(weight))
        ctx.save_for_backward(rows, weight, scale)
        return y.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, scale = ctx.saved_tensors
        width, shape = rows.shape[1], dy.shape
        dy = dy.reshape(rows.shape).to(rows.dtype)
        # Layer normalisation with a mean of 0, but for what the gradient of its mean takes off.
        dx, dweight, _ = torch.ops.aten.native_layer_norm_backward(
            dy, rows, [width], torch.zeros_like(scale), scale, weight, None, [True, ctx.needs_input_grad[1], False]
        )
        taken = dy.mv(weight.to(dy.dtype))[:, None] * scale / width
        return dx.add_(taken).view(shape), dweight, None, None
