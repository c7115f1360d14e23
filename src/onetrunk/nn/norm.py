"""Root mean square layer normalisation (arXiv 1910.07467)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from onetrunk.core.kernels import by_hand
from onetrunk.nn.kernels.cpu.rms_norm import rms_norm

# Under autocast weights stay float32: PyTorch then says that it takes no fused kernel, which a CPU does not have.
warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)


class RMSNorm(nn.RMSNorm):
    """x [..., D] to the same shape: x / sqrt(mean(x²) + eps) · weight; under autocast in its type."""

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        if not (by_hand(x) and torch.is_grad_enabled()):
            return super().forward(x).to(dtype)
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        return rms_norm(x, self.weight, eps, dtype)
