"""Dropout (JMLR 15, 2014)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.core.kernels import by_hand
from onetrunk.nn.kernels.cpu import dropout as cpu


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """x, of any shape; in training a random share `p` of its numbers is 0, and the others are divided by 1 - p."""
    if not training or p == 0 or not by_hand(x):
        return F.dropout(x, p, training)
    return cpu.dropout(x, p)


class Dropout(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
