"""Linear maps with weights that stay as they are, laid out once for oneDNN's products, in float32 or bfloat16.

PyTorch's own product of float32 on a CPU is MKL's, which is half as fast as oneDNN's on AMD's processors: one core of
an EPYC made 100 and 215 GFLOP/s of them at [440, 256] times [256, 1024], and 480 in bfloat16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FEW_ROWS = 8  # below so many, in float32, a product reads the weight once in any case, and MKL has less to do before


def can_lay_out(weight: Tensor) -> bool:
    """Is there anything to gain? A build of PyTorch without oneDNN has none, and other devices have their own. oneDNN
    reads bfloat16 on processors with AVX-512 alone."""
    if weight.device.type != "cpu" or weight.ndim != 2 or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def lay_out(weight: Tensor) -> Tensor:
    """A weight [out, in] as oneDNN wants it. Nothing but `linear` can read it."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return laid_out


def linear(x: Tensor, laid_out: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` with a weight that was laid out; x [..., in] of its type. There is no gradient."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), laid_out, bias, "none", [], "")
    return y


class FixedLinear:
    """x [..., in] to [..., out], of `dtype`; a weight that no longer changes. The plain twin is `F.linear` in that
    type, which is also what every other device takes."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._bias = None if bias is None else bias.detach().to(dtype)
        own = weight.detach().to(dtype)
        self._laid_out = lay_out(own) if can_lay_out(own) else None
        self._weight = own if dtype == weight.dtype or self._laid_out is None else None  # else nobody reads it

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        rows = x.numel() // max(1, x.shape[-1])
        few = rows < (_FEW_ROWS if self.dtype == torch.float32 else 1)
        if self._laid_out is None or (few and self._weight is not None):
            assert self._weight is not None
            return F.linear(x, self._weight, self._bias)
        if not rows:
            return x.new_zeros(*x.shape[:-1], self._laid_out.shape[0])
        return linear(x, self._laid_out, self._bias)
