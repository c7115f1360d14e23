"""Root mean square layer normalisation (arXiv 1910.07467)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from onetrunk.core.kernels import by_hand

# Under autocast weights stay float32: PyTorch then says that it takes no fused kernel, which a CPU does not have.
warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)

_TILE = 1 << 18  # numbers


class RMSNorm(nn.RMSNorm):
    """x [..., D] to the same shape: x / sqrt(mean(x²) + eps) · weight; under autocast in its type.

    A CPU has no kernel of it, and the dozen operations of its formula and of their gradients are a fifth of a training
    step. There it is computed in tiles that stay in the cache, and its gradient by the kernel of layer normalisation.
    """

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        if not (by_hand(x) and torch.is_grad_enabled()):
            return super().forward(x).to(dtype)
        return _RMS.apply(x, self.weight, self.eps, dtype)


class _RMS(torch.autograd.Function):
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
