"""A traced network against PyTorch's own gradients, and the worked example's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from onetrunk.core.errors import UsageError
from onetrunk.explanation.trace import EXAMPLE, Network, trace


def _values(lines: list[Any]) -> dict[str, float]:
    return {line.name: line.value for line in lines}


def test_the_worked_example_has_the_right_numbers() -> None:
    traced = trace(EXAMPLE)
    forward, backward = _values(traced.forward), _values(traced.backward)
    assert str(traced.forward[0]) == "z1.1 = w1.1.1 x1 + w1.1.2 x2 + b1.1 = 1.4 × 2 + 3 × 3 + 0.6 = 12.4"
    assert forward["a1.2"] == 0 and forward["y1"] == pytest.approx(0.62)
    assert "dL/dy1 = y1 − t1 = 0.62 − 1 = −0.38" in [str(line) for line in traced.backward]
    assert backward["dL/dw2.1.1"] == pytest.approx(-0.38 * 12.4) and backward["dL/dw1.2.1"] == 0
    assert traced.loss == pytest.approx(0.38**2 / 2) and traced.loss_after < traced.loss / 10


NETWORKS = [
    {"layers": [("sigmoid", 3), ("tanh", 2), ("identity", 2)], "loss": "squared_error"},
    {"layers": [("relu", 4), ("softmax", 3)], "loss": "cross_entropy"},
]
ACTIVATIONS: dict[str, Any] = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "identity": lambda z: z,
    "softmax": lambda z: torch.softmax(z, 0),
}  # fmt: skip


@pytest.mark.parametrize("made", NETWORKS)
def test_every_gradient_is_that_of_autograd(made: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x, width, layers, leaves = torch.randn(3, dtype=torch.float64), 3, [], []
    for activation, units in made["layers"]:
        weight, bias = torch.randn(units, width, dtype=torch.float64), torch.randn(units, dtype=torch.float64)
        layers.append({"weight": weight.tolist(), "bias": bias.tolist(), "activation": activation})
        leaves.append((weight.requires_grad_(), bias.requires_grad_()))
        width = units
    target = torch.softmax(torch.randn(width, dtype=torch.float64), 0)
    network = {"input": x.tolist(), "target": target.tolist(), "layers": layers, "loss": made["loss"], "rate": 0.01}
    traced = trace(Network.parse(network, "network"))
    h = x
    for (activation, _), (weight, bias) in zip(made["layers"], leaves, strict=True):
        h = ACTIVATIONS[activation](weight @ h + bias)
    loss = ((h - target) ** 2).sum() / 2 if made["loss"] == "squared_error" else -(target * h.log()).sum()
    loss.backward()
    found, new = _values(traced.backward), _values(traced.update)
    assert traced.loss == pytest.approx(loss.item())
    for k, (weight, bias) in enumerate(leaves, 1):
        assert weight.grad is not None and bias.grad is not None
        for i, row in enumerate(weight.grad.tolist(), 1):
            assert found[f"dL/db{k}.{i}"] == pytest.approx(bias.grad[i - 1].item())
            for j, gradient in enumerate(row, 1):
                assert found[f"dL/dw{k}.{i}.{j}"] == pytest.approx(gradient)
                assert new[f"w{k}.{i}.{j} new"] == pytest.approx(weight[i - 1, j - 1].item() - 0.01 * gradient)
    assert traced.loss_after < traced.loss


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": [1, 0]}, "the target should have 1 numbers"),
        ({"loss": "cross_entropy"}, "should stand together"),
        ({"input": [1.0]}, "each unit of layer 1 should have 1 weights"),
        ({"layers": [{"weight": [[1, 2]], "bias": []}]}, "layer 1 should have a bias for each of its 1 units"),
        ({"input": [0.0] * 17}, "at most 16"),
    ],
)
def test_what_is_no_small_network_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Network.parse({**EXAMPLE.model_dump(), **change}, "network.json")
