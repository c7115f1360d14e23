"""Dropout with draws shared by four numbers, against what dropout is."""

from __future__ import annotations

import pytest
import torch

from onetrunk.nn.dropout import Dropout, dropout

N = 100_003  # no multiple of four


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_is_lost_and_the_rest_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    y = dropout(torch.ones(N), p, training=True)
    lost = float((y == 0).float().mean())
    assert lost == pytest.approx(p, abs=5 * (p * (1 - p) / N) ** 0.5)  # five standard errors of a Bernoulli mean
    torch.testing.assert_close(y[y != 0], torch.full((int((y != 0).sum()),), 1 / (1 - p)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("lag", [1, 2, 3, 4])
def test_neighbours_are_lost_apart(lag: int) -> None:
    """Also those that share a draw."""
    torch.manual_seed(0)
    lost = (dropout(torch.ones(N), 0.3, training=True) == 0).double()
    assert abs(float(torch.corrcoef(torch.stack([lost[:-lag], lost[lag:]]))[0, 1])) < 5 / N**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_goes_where_the_number_went(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 5, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.4, training=True)
    y.sum().backward()
    assert y.dtype == dtype
    assert 0 < int((y == 0).sum()) < y.numel()
    assert torch.equal(x.grad, y.detach())  # of ones: each number's own factor


def test_the_seed_says_which() -> None:
    x, layer = torch.ones(1000), Dropout(0.5)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(layer(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_nothing_is_lost_outside_of_training_or_at_a_share_of_nothing() -> None:
    x = torch.randn(10)
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)
    assert torch.equal(Dropout(0.5).eval()(x), x)


def test_almost_everything_may_be_lost() -> None:
    assert dropout(torch.ones(100), 0.999999, training=True).isfinite().all()
