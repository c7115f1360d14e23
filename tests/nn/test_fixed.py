"""Linear maps with weights that were laid out once, against PyTorch's own in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from onetrunk.core.batch import Layout
from onetrunk.nn.attention import Attention, Rotary
from onetrunk.nn.fixed import fix, product_dtype
from onetrunk.nn.kernels.cpu.linear import FixedLinear

SHAPES = [(1, 48), (7, 48), (8, 48), (33, 48), (3, 5, 48), (0, 48), (2, 0, 48), (48,)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-7)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_it_is_the_linear_map(dtype: torch.dtype, tolerance: float, shape: tuple[int, ...], biased: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(80, 48), torch.randn(80) if biased else None
    with torch.inference_mode():
        y = FixedLinear(weight, bias, dtype)(x)
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert y.dtype == dtype and y.shape == expected.shape
    np.testing.assert_allclose(y.double(), expected, rtol=0, atol=tolerance * 4 * 48**0.5)


def test_views_that_are_not_contiguous() -> None:
    x, weight = torch.randn(48, 12).T, torch.randn(80, 48)
    with torch.inference_mode():
        torch.testing.assert_close(FixedLinear(weight, None, torch.float32)(x), F.linear(x, weight))


def test_a_fixed_network_keeps_its_parameters_and_its_gradients() -> None:
    network = nn.Sequential(nn.Linear(48, 80), nn.GELU(), nn.Linear(80, 8))
    names, x = list(network.state_dict()), torch.randn(40, 48, requires_grad=True)
    y = network(x)
    y.square().sum().backward()
    slope = x.grad
    fix(network, torch.bfloat16)
    assert list(network.state_dict()) == names and product_dtype(network) == torch.bfloat16
    x.grad = None
    again = network(x)
    again.square().sum().backward()
    assert x.grad is not None and torch.equal(x.grad, slope), "exactly, where one is asked for"
    assert torch.equal(again, y)
    with torch.inference_mode():
        in_bf16 = network(x.detach())
    assert in_bf16.dtype == torch.bfloat16 and not torch.equal(in_bf16.float(), y)
    fix(network, torch.float32)  # again, in another type
    with torch.inference_mode():
        torch.testing.assert_close(network(x.detach()), y.detach())
    assert product_dtype(nn.Linear(2, 2).double()) == torch.float64


@pytest.mark.parametrize("bias", ["none", "all"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_queries_keys_and_values_are_one_product(bias: Any, kv_heads: int) -> None:
    attention = Attention(48, 4, kv_heads, 12, 1e-6, bias=bias)
    layout = Layout.stream(2, 9)
    x, cos_sin = torch.randn(2, 9, 48), Rotary(12, 10_000.0)(layout.pos_BT)
    exact = attention(x, layout, cos_sin)
    with torch.inference_mode():
        before = attention(x, layout, cos_sin)
        fix(attention, torch.float32)
        torch.testing.assert_close(attention(x, layout, cos_sin), before)
    assert torch.equal(attention(x, layout, cos_sin), exact), "as it was, where a gradient is asked for"


def test_queries_and_keys_are_normed_together() -> None:
    attention = Attention(48, 4, 2, 12, 1e-6)
    nn.init.uniform_(attention.q_norm.weight, 0.5, 2)
    nn.init.uniform_(attention.k_norm.weight, -2, -0.5)
    layout = Layout.stream(2, 9)
    x, cos_sin = torch.randn(2, 9, 48), Rotary(12, 10_000.0)(layout.pos_BT)
    with torch.inference_mode():
        apart = attention._project(x, cos_sin)
        fix(attention, torch.float32)
        together = attention._project(x, cos_sin)
    for one, other in zip(apart, together, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(other, one)
