"""How learnt tensors begin."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normal(*shape: int, std: float) -> Tensor:
    """Normal numbers of mean 0, float32 [*shape]. Where only shapes are wanted (the device `meta`) none are drawn:
    PyTorch would import its compiler for that, a second."""
    return normal_(torch.empty(shape), std)


def normal_(x: Tensor, std: float) -> Tensor:
    """The same in place of what a tensor held."""
    return x if x.is_meta else nn.init.normal_(x, std=std)
