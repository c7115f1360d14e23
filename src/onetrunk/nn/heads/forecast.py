"""A forecast of points in patches: a fixed linear map of the history that the trunk corrects.

Each point has a mean and quantiles; a noisy patch of a path is read as what it is without the noise (`nn.heads.flow`).
All values are normed by the history. r reads, L points of history, K patches of P points, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import torch
from torch import Tensor, nn

from onetrunk.nn.dropout import Dropout


class Forecast(nn.Module):
    line: Tensor  # [patches * patch, length], the fitted map
    clean: nn.Linear | None  # of noisy patches of paths

    def __init__(
        self,
        width: int,
        length: int,
        patches: int,
        patch: int,
        quantiles: Sequence[float],
        paths: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patches, self.patch, self.quantiles = patches, patch, tuple(quantiles)
        # Fitted, not trained: gradient steps on so many weights lose what the regression found.
        self.register_buffer("line", torch.zeros(patches * patch, length))
        self.points = nn.Linear(width, patch * (1 + len(self.quantiles)))
        nn.init.zeros_(self.points.weight)
        spread = torch.tensor([NormalDist().inv_cdf(q) for q in (0.5, *self.quantiles)])
        self.points.bias.data.copy_(spread.repeat(patch))  # the first forecast is a normal distribution
        self.clean = nn.Linear(width, patch) if paths else None
        if self.clean is not None:
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
        if self.clean is None:
            raise TypeError("this forecast was made without paths")
        return self.clean(h).float() + linear

    def loss(self, h: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Each read's loss [r]: squared error of the mean and pinball loss of the quantiles (arXiv 1711.11053); where
        `velocity` is above 0, the flow's."""
        y, present, velocity = targets["y"], targets["present"], targets["velocity"]
        linear = self.linear(targets["past"], targets["slot"])
        forecast = self(h, linear)
        levels = torch.tensor(self.quantiles, device=h.device)
        apart = y[..., None] - forecast[..., 1:]
        pinball = 2 * torch.maximum(levels * apart, (levels - 1) * apart).mean(-1)
        each = (y - forecast[..., 0]).square() + pinball
        if self.clean is not None:
            flow = (y - self.path(h, linear)).square() * velocity[:, None]
            each = torch.where(velocity[:, None] > 0, flow, each)
        return (each * present).sum(1) / present.sum(1).clamp(min=1)
