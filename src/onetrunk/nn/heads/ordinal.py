"""Levels in order, read from one score: cumulative logits with proportional odds (McCullagh 1980).

P(level <= k) = sigmoid(cut_k - score), where the K - 1 cuts rise: one direction in the states says how high a level is.
r reads, K levels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MIN_GAP = 1e-3  # between two cuts: every level keeps some probability


class CumulativeLogits(nn.Module):
    """From scores [r] to the log of each level's probability [r, K], by cuts [K - 1] that rise."""

    def __init__(self, cuts: np.ndarray) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(()))
        self.gaps = nn.Parameter(torch.zeros(len(cuts) - 1))  # before softplus
        self.set_cuts(torch.from_numpy(cuts))

    @torch.no_grad()
    def set_cuts(self, cuts: Tensor) -> None:
        """Cuts [K - 1] that rise."""
        gaps = (cuts[1:] - cuts[:-1]).double().clamp(min=2 * _MIN_GAP) - _MIN_GAP
        self.first.copy_(cuts[0])
        self.gaps.copy_(gaps + torch.log(-torch.expm1(-gaps)))  # the inverse of softplus

    @property
    def cuts(self) -> Tensor:
        """[K - 1]"""
        return torch.cat([self.first[None], self.first + (F.softplus(self.gaps) + _MIN_GAP).cumsum(0)])

    def forward(self, score: Tensor) -> Tensor:
        return log_levels(score, self.cuts)


def log_levels(score: Tensor, cuts: Tensor) -> Tensor:
    """log P(level = k) [r, K] of scores [r] and rising cuts [K - 1], exact also where probabilities are tiny:
    sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b))."""
    at = cuts[None] - score[:, None]
    below, above = F.logsigmoid(at), F.logsigmoid(-at)
    between = torch.log(-torch.expm1(cuts[:-1] - cuts[1:]))
    return torch.cat([below[:, :1], below[:, 1:] + above[:, :-1] + between, above[:, -1:]], dim=1)


def median_level(log_p: Tensor) -> Tensor:
    """The level in whose middle half of the probability lies, int64 [r]: of all answers the one with the least expected
    distance."""
    reached = log_p.softmax(-1).cumsum(-1)[:, :-1]
    return (reached < 0.5).sum(-1)
