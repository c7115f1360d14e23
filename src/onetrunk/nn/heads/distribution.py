"""A distribution over one real number: a histogram between fixed borders, with half-normal tails outside.

The Riemann distribution of prior-fitted networks (arXiv 2112.10510; used by TabPFN, arXiv 2207.01848).
All that is asked of it (density, mean, quantiles, samples) has a closed form.

r reads, K logits: low tail, K - 2 inner bars, high tail; M = K - 1 borders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class BarDistribution(nn.Module):
    """Fixed borders; the logits [r, K] that a read-out predicts say how much probability each bar holds.

    `borders` [M] increase; `scales` are the standard deviations of the normals whose halves are the low and
    the high tail; `mass` [K] is how much of the training values each bar holds (a read-out starts there).
    """

    borders: Tensor
    widths: Tensor
    centres: Tensor

    def __init__(self, borders: Sequence[float], scales: Sequence[float], mass: Sequence[float]) -> None:
        super().__init__()
        self.size = len(mass)
        edges = np.asarray(borders, dtype=np.float32)
        low, high = np.asarray(scales, dtype=np.float32)
        tail_mean = np.float32(math.sqrt(2 / math.pi))  # of a half-normal, in its scale
        middles = (edges[1:] + edges[:-1]) / np.float32(2)
        # Rebuilt from knowledge, so not part of the weights.
        for name, value in {
            "borders": edges,
            "widths": np.concatenate([[low], np.diff(edges), [high]]),  # of the tails: their scales
            "centres": np.concatenate([[edges[0] - tail_mean * low], middles, [edges[-1] + tail_mean * high]]),
        }.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)
        self.mass = np.asarray(mass, dtype=np.float32)

    def read_out(self, width: int) -> nn.Linear:
        """From states [r, width] to logits [r, K], whose first answer is the training distribution."""
        head = nn.Linear(width, self.size)
        nn.init.zeros_(head.weight)
        head.bias.data.copy_(torch.tensor(np.log(self.mass)))
        return head

    def log_prob(self, logits: Tensor, value: Tensor) -> Tensor:
        """Log density [r] of values [r] under logits [r, K]."""
        value = value.float().contiguous()
        index = torch.bucketize(value, self.borders)
        below = ((self.borders[0] - value) / self.widths[0]).clamp(min=0)
        above = ((value - self.borders[-1]) / self.widths[-1]).clamp(min=0)
        tail = (index == 0) | (index == self.size - 1)
        inside = tail * (0.5 * math.log(2 / math.pi)) - (below**2 + above**2) / 2 - self.widths[index].log()
        return logits.float().log_softmax(-1).gather(1, index[:, None])[:, 0] + inside

    def loss(self, logits: Tensor, value: Tensor) -> Tensor:
        """Negative log density [r], nats."""
        return -self.log_prob(logits, value)

    def mean(self, logits: Tensor) -> Tensor:
        """[r]"""
        return logits.float().softmax(-1) @ self.centres

    def quantile(self, logits: Tensor, p: Tensor) -> Tensor:
        """The values [r, s] below which the probabilities p [r, s] lie."""
        probability = logits.float().softmax(-1)
        cumulative = probability.cumsum(-1)
        p = p.float().clamp(max=1.0) * cumulative[:, -1:]  # rounding leaves the sum a little off 1
        index = torch.searchsorted(cumulative, p.contiguous()).clamp(max=self.size - 1)
        held = probability.gather(1, index)
        inside = (p - cumulative.gather(1, index) + held) / held.clamp(min=torch.finfo(torch.float32).tiny)
        inside = inside.clamp(1e-6, 1 - 1e-6)  # the ends of the tails are infinite
        width = self.widths[index]
        left = self.borders[(index - 1).clamp(min=0)]
        below = self.borders[0] - width * math.sqrt(2) * torch.erfinv(1 - inside)
        above = left + width * math.sqrt(2) * torch.erfinv(inside)
        value = torch.where(index == self.size - 1, above, left + width * inside)
        return torch.where(index == 0, below, value)

    def interval(self, logits: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """The central interval (low [r], high [r]) that holds `level` of the probability."""
        p = torch.tensor([(1 - level) / 2, (1 + level) / 2], device=logits.device).expand(len(logits), 2)
        low, high = self.quantile(logits, p).unbind(1)
        return low, high

    def sample(self, logits: Tensor, u: Tensor, temperature: Tensor) -> Tensor:
        """Draws [r, s] from uniform numbers u [r, s], each row at its own temperature [r], above 0; low ones draw from
        the likeliest bars."""
        return self.quantile(logits / temperature[:, None], u)
