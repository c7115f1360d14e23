"""Gradients written by hand, against PyTorch's of the formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onetrunk.nn.attention import Rotary, rotate
from onetrunk.nn.block import build_mlp

B, H, T, WIDTH = 2, 3, 5, 8


def both(ours: Callable[[Tensor], Tensor], formula: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Values and gradients, in float64."""
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    up = torch.randn(x.shape, dtype=x.dtype)
    (ours(mine) * up).sum().backward()
    (formula(theirs) * up).sum().backward()
    torch.testing.assert_close(ours(mine), formula(theirs))
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("shared", [True, False], ids=["the same positions in every row", "each its own"])
def test_rotary_positions(shared: bool) -> None:
    torch.manual_seed(0)
    cos, sin = Rotary(WIDTH, 100.0)(torch.randint(50, (T,) if shared else (B, T)))
    cos, sin = cos.double(), sin.double()

    def formula(x: Tensor) -> Tensor:
        """A product of complex numbers."""
        a, b = x.chunk(2, dim=-1)
        turned = torch.complex(a, b) * torch.complex(cos, sin)
        return torch.cat([turned.real, turned.imag], dim=-1)

    both(lambda x: rotate(x, (cos, sin)), formula, torch.randn(B, T, H, WIDTH, dtype=torch.float64).transpose(1, 2))


def test_squared_relu() -> None:
    torch.manual_seed(0)
    mlp = build_mlp("relu2", WIDTH, 16, bias=True).double()

    def formula(x: Tensor) -> Tensor:
        return mlp.down_proj(F.relu(mlp.up_proj(x)) ** 2)

    both(mlp, formula, torch.randn(T, WIDTH, dtype=torch.float64))
