"""Steps of a flow from noise to an answer (flow matching, arXiv 2210.02747).

At level t, from 0 (noise) to 1 (clean), a noisy value is x_t = t x + (1 - t) noise; the read-out predicts the clean x.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SINUSOIDS = 16  # numbers that describe a level


def sinusoidal_embedding(level: Tensor) -> Tensor:
    """Numbers from 0 to 1 [...] as sines and cosines [..., SINUSOIDS], for a linear map to take in."""
    angle = level[..., None] * torch.pi * torch.arange(1, SINUSOIDS // 2 + 1, device=level.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def denoised(head: nn.Module, h: Tensor, unconditional: Tensor | None, guidance: Tensor) -> Tensor:
    """The clean parts that a read-out predicts from h [n, ...], led away from what it would with nothing given
    (`unconditional`), each answer by its own `guidance` [n]."""
    clean = head(h).float()
    if unconditional is None:
        return clean
    without = head(unconditional).float()
    return without + broadcast_like(guidance, clean) * (clean - without)


def ode_step(x: Tensor, clean: Tensor, taken: Tensor, steps: Tensor) -> Tensor:
    """One Euler step of x [n, ...] along the velocity (clean - x) / (1 - t), from level t = taken / steps to the next,
    each answer on its own way: `taken` and `steps` [n]. The last one arrives."""
    steps_left = broadcast_like(steps - taken, x)
    return torch.where(steps_left <= 1, clean, x + (clean - x) / steps_left.clamp(min=1))


def broadcast_like(each: Tensor, x: Tensor) -> Tensor:
    """Numbers [n] in a shape that broadcasts over x [n, ...]."""
    return each.view(-1, *[1] * (x.ndim - 1))
