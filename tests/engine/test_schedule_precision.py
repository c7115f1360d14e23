"""The learning rate's factor in closed form; what decides the precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from onetrunk.engine import precision
from onetrunk.engine.schedule import factor


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_warm_up_rises_to_one_and_never_jumps(kind: str) -> None:
    values = [factor(step, 100, 0.1, kind) for step in range(100)]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10] == 1.0 and all(0 < v <= 1 for v in values)
    after = values[10:]
    assert after == sorted(after, reverse=True)


def test_closed_forms() -> None:
    assert [factor(s, 100, 0.0, "constant") for s in (0, 99)] == [1.0, 1.0]
    assert factor(50, 100, 0.0, "linear") == pytest.approx(0.5)
    assert factor(99, 100, 0.0, "linear") == pytest.approx(0.01)
    assert factor(25, 100, 0.0, "cosine") == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert factor(0, 1, 0.5, "linear") == 1.0


@pytest.mark.parametrize(
    ("choice", "fast", "width", "expected"),
    [
        ("fp32", True, 512, (False, False)),
        ("bf16", False, 64, (True, False)),
        ("auto", True, 512, (True, True)),
        ("auto", True, 255, (False, True)),
        ("auto", False, 512, (False, False)),
    ],
)
def test_the_decision(monkeypatch, choice: str, fast: bool, width: int, expected: tuple[bool, bool]) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: fast)
    decision = precision.decide(choice, torch.device("cpu"), width)
    assert (decision.autocast, decision.muon) == expected
    assert decision.reason.startswith("bf16" if decision.autocast else "fp32")
    with decision.context(torch.device("cpu")):
        assert (nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16) == expected[0]


def test_width_is_the_trunks() -> None:
    blocks = [nn.Embedding(1000, 64), nn.Linear(64, 256), nn.Linear(256, 64), nn.Linear(64, 3)]
    assert precision.width_of(nn.ModuleList(blocks)) == 64
    assert precision.width_of(nn.LayerNorm(4)) == 0
