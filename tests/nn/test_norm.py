"""The norm, in tiles and by another gradient, against PyTorch's, by its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onetrunk.nn.norm import RMSNorm

SHAPES = [(3, 5, 8), (2, 7, 2, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.02)]
)
def test_values_and_gradients_are_pytorchs(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    """In float64 and float32 to rounding; bf16 inputs, with float32 weights, as far as their 8 bits go."""
    torch.manual_seed(0)
    norms = [RMSNorm(shape[-1], eps=1e-3), nn.RMSNorm(shape[-1], eps=1e-3, dtype=torch.float64)]
    norms[0].to(torch.promote_types(dtype, torch.float32))
    x, weight = torch.randn(shape).to(dtype).mul_(3), 1 + 0.3 * torch.randn(shape[-1])
    inputs = [x.clone().requires_grad_(), x.double().requires_grad_()]
    up = torch.randn(shape, dtype=torch.float64)
    for norm, given in zip(norms, inputs, strict=True):
        with torch.no_grad():
            norm.weight.copy_(weight)
        (norm(given).double() * up).sum().backward()
    torch.testing.assert_close(norms[0](inputs[0]).double(), norms[1](inputs[1]), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(inputs[0].grad.double(), inputs[1].grad, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(norms[0].weight.grad.double(), norms[1].weight.grad, rtol=tolerance, atol=2 * tolerance)


def test_tiles_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows at a time, the last tile smaller."""
    monkeypatch.setattr("onetrunk.nn.kernels.cpu.rms_norm._TILE", 17)
    test_values_and_gradients_are_pytorchs((3, 5, 8), torch.float64, 1e-12)


def test_autocast_says_the_type_with_and_without_gradients() -> None:
    norm, x = RMSNorm(8, eps=1e-6), torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        learning = norm(x)
        with torch.no_grad():
            answering = norm(x)
    assert learning.dtype == answering.dtype == torch.bfloat16
    torch.testing.assert_close(learning.detach(), answering, rtol=0.01, atol=0.01)


def test_what_is_frozen_gets_no_gradient() -> None:
    norm, x = RMSNorm(8, eps=1e-6).requires_grad_(False), torch.randn(3, 8, requires_grad=True)
    norm(x).sum().backward()
    assert norm.weight.grad is None
    assert x.grad is not None
