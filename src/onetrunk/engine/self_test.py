"""Checks that this installation of PyTorch trains: a broken build shows here."""

from __future__ import annotations

import torch
from torch import nn

from onetrunk.engine.optim import OptimConfig, build_optimizer


def learns() -> str:
    """Fits a straight line with the package's own optimizer, and says whether that works."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 64)[:, None]
    optimizer = build_optimizer(dict(model.named_parameters()), OptimConfig(optimizer="adam", lr=0.1))
    for _ in range(200):
        model.zero_grad()
        loss = (model(x) - 3 * x - 1).square().mean()
        loss.backward()
        optimizer.step(1.0)
    return "works" if loss.item() < 1e-3 else f"does not learn (loss {loss.item():.3g})"
