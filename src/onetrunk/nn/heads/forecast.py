"""A forecast of points in patches: a fixed linear map of the history that the trunk corrects.

Each point has a mean and quantiles; a noisy patch of a path is read as what it is without the noise (`nn.heads.flow`).
All values are normed by the history. r reads, L points of history, K patches of P points, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onetrunk.nn.dropout import Dropout

QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Forecast(nn.Module):
    def __init__(self, width: int, length: int, patches: int, patch: int, paths: bool, dropout: float) -> None:
        super().__init__()
        self.patches, self.patch = patches, patch
        # Fitted, not trained: gradient steps on so many weights lose what the regression found.
        self.register_buffer("line", torch.zeros(patches * patch, length))
        self.points = nn.Linear(width, patch * (1 + len(QUANTILES)))
        nn.init.zeros_(self.points.weight)
        spread = 2**0.5 * torch.erfinv(2 * torch.tensor((0.5, *QUANTILES)) - 1)
        self.points.bias.data.copy_(spread.repeat(patch))  # the first forecast is a normal distribution
        self.clean = nn.Linear(width, patch) if paths else None
        if paths:
            nn.init.zeros_(self.clean.weight)
        self.dropout = Dropout(dropout)

    def linear(self, past: Tensor, slot: Tensor) -> Tensor:
        """The linear forecast of patch `slot` [r] from the history `past` [r, L]: [r, P]."""
        whole = (past @ self.line.T).view(len(past), self.patches, self.patch)
        return whole[torch.arange(len(past), device=past.device), slot]

    def forward(self, h: Tensor, linear: Tensor) -> Tensor:
        """States [r, D] and linear forecasts [r, P] to mean and quantiles [r, P, 1 + Q]."""
        return self.points(self.dropout(h)).float().unflatten(1, (self.patch, -1)) + linear[..., None]

    def path(self, h: Tensor, linear: Tensor) -> Tensor:
        """States of noisy patches [r, D] to the patches without noise [r, P]."""
        return self.clean(h).float() + linear

    def loss(self, h: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Each read's loss [r]: squared error of the mean and pinball loss of the quantiles (arXiv 1711.11053); where
        `velocity` is above 0, the flow's."""
        y, there, velocity = targets["y"], targets["there"], targets["velocity"]
        linear = self.linear(targets["past"], targets["slot"])
        found = self(h, linear)
        levels = torch.tensor(QUANTILES, device=h.device)
        apart = y[..., None] - found[..., 1:]
        pinball = 2 * torch.maximum(levels * apart, (levels - 1) * apart).mean(-1)
        each = (y - found[..., 0]).square() + pinball
        if self.clean is not None:
            flow = (y - self.path(h, linear)).square() * velocity[:, None]
            each = torch.where(velocity[:, None] > 0, flow, each)
        return (each * there).sum(1) / there.sum(1).clamp(min=1)
