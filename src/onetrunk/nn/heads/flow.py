"""Flow matching with one noise level a part (arXiv 2210.02747; masked parts and whole drawings are one loss).

Level t: 1 is given, 0 is hidden, between is denoising. A noisy part is x_t = t x + (1 - t) noise; the read-out predicts
the clean x, weighed by 1 / (1 - t)^2, which makes it the velocity's loss.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

WAVES = 16  # numbers that describe a level
_NEAREST = 0.2  # 1 - t is clamped here: the weight of nearly clean parts stays bounded


def noisy(x: np.ndarray, noise: np.ndarray, level: np.ndarray) -> np.ndarray:
    """x, noise [m, ...] and level broadcastable to them."""
    return level * x + (1 - level) * noise


def weight(level: np.ndarray) -> np.ndarray:
    """How much a part at this level counts; 1 for a hidden one."""
    return 1 / np.maximum(1 - level, _NEAREST) ** 2


def waves(level: Tensor) -> Tensor:
    """Numbers from 0 to 1 [...] as sines and cosines [..., WAVES], for a linear map to take in."""
    angle = level[..., None] * torch.pi * torch.arange(1, WAVES // 2 + 1, device=level.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def denoised(head: nn.Module, h: Tensor, unconditional: Tensor | None, guidance: Tensor) -> Tensor:
    """The clean parts that a read-out predicts from h [n, ...], led away from what it would with nothing given
    (`unconditional`), each answer by its own `guidance` [n]."""
    clean = head(h).float()
    if unconditional is None:
        return clean
    without = head(unconditional).float()
    return without + like(guidance, clean) * (clean - without)


def ode_step(x: Tensor, clean: Tensor, taken: Tensor, steps: Tensor) -> Tensor:
    """One Euler step of x [n, ...] along the velocity (clean - x) / (1 - t), from level t = taken / steps to the next,
    each answer on its own way: `taken` and `steps` [n]. The last one arrives."""
    left = like(steps - taken, x)
    return torch.where(left <= 1, clean, x + (clean - x) / left.clamp(min=1))


def like(each: Tensor, x: Tensor) -> Tensor:
    """Numbers [n] in a shape that broadcasts over x [n, ...]."""
    return each.view(-1, *[1] * (x.ndim - 1))
