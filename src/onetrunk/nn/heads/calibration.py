"""Calibrated probabilities, and the fits of what calibrates them: one number each, by a proper score.

r rows, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from onetrunk.core.calibration import Calibration

_LOG_BOUND = math.log(20.0)  # temperatures and spreads lie between 1 / 20 and 20
_PRIOR_DEVIATION = 0.5  # of the logarithm of a temperature around 0, before any row is seen
_PRIOR_ROWS = 10.0  # that a spread of 1 counts beside the rows that are seen
_PRIOR_POINTS = 200
_CAUTION = 3.0  # nats, or squared errors, that shares far from one half cost
_GRID = 65
_GOLDEN, _ROUNDS = (math.sqrt(5) - 1) / 2, 40


def one_of(logits: Tensor, calibration: Calibration | None) -> Tensor:
    """Probabilities [r, K] of classes of which one is right."""
    if calibration is None:
        return logits.softmax(-1)
    p = (logits / calibration.temperature).softmax(-1)
    return (1 - calibration.doubt) * p + calibration.doubt / logits.shape[-1]


def each_of(logits: Tensor, calibration: Calibration | None) -> Tensor:
    """Probabilities [r, K] of classes of which each may be right."""
    if calibration is None:
        return logits.sigmoid()
    return (1 - calibration.doubt) * (logits / calibration.temperature).sigmoid() + calibration.doubt / 2


def loss_of_one(logits: Tensor, ids: Tensor, calibration: Calibration) -> Tensor:
    """Minus the log of the probability of the true class [r], nats."""
    right = (logits / calibration.temperature).log_softmax(-1).gather(1, ids[:, None])[:, 0]
    return -_doubted(right, calibration.doubt, logits.shape[-1])


def loss_of_shares(logits: Tensor, shares: Tensor, calibration: Calibration) -> Tensor:
    """Cross entropy of the probabilities with what is true of each row, a distribution [r, K]: [r], nats."""
    log_p = (logits / calibration.temperature).log_softmax(-1)
    return -(shares.to(log_p) * _doubted(log_p, calibration.doubt, logits.shape[-1])).sum(-1)


def loss_of_each(logits: Tensor, hot: Tensor, calibration: Calibration) -> Tensor:
    """Minus the log of the probability of what is true of each class [r, K], nats."""
    right = F.logsigmoid((2 * hot - 1) * logits / calibration.temperature)
    return -_doubted(right, calibration.doubt, 2)


def _doubted(log_p: Tensor, doubt: float, choices: int) -> Tensor:
    if not doubt:
        return log_p
    return torch.logaddexp(log_p + math.log1p(-doubt), torch.full_like(log_p, math.log(doubt / choices)))


# -- fits ------------------------------------------------------------------------------------------------------------
def fit_temperature(total_loss: Callable[[float], float]) -> float:
    """The temperature with the least total loss over the rows (nats) and a prior: its logarithm is normal around 0. So
    a few rows move it a little, and many as far as they say."""

    def objective(log_temperature: float) -> float:
        prior = (log_temperature / _PRIOR_DEVIATION) ** 2 / 2
        return total_loss(math.exp(log_temperature)) + prior

    grid = np.linspace(-_LOG_BOUND, _LOG_BOUND, _GRID)
    best = int(np.argmin([objective(float(x)) for x in grid]))
    low, high = float(grid[max(0, best - 1)]), float(grid[min(_GRID - 1, best + 1)])
    return math.exp(_least(objective, low, high))


def fit_scores(
    own: Tensor, wide: Tensor, cuts: np.ndarray, mean_loss: Callable[[Tensor, Tensor], Tensor]
) -> tuple[float, float, np.ndarray]:
    """As `fit_shares`, of two scores [r] of levels in order, with the cuts [K - 1] between these: the mean loss is of
    scores [r] and cuts."""
    from scipy import optimize

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        v = torch.from_numpy(values).requires_grad_()
        between = torch.cat([v[2:3], v[2:3] + v[3:].exp().cumsum(0)])
        loss = mean_loss(v[0] * own + v[1] * wide, between) + ((v[:2] - 0.5) ** 2).sum() * _CAUTION / len(own)
        loss.backward()
        assert v.grad is not None
        return float(loss.detach()), v.grad.numpy()

    begin = np.concatenate([[0.5, 0.5], cuts[:1], np.log(np.maximum(np.diff(cuts), 1e-2))])
    bounds = [(0, 2), (0, 2), *[(None, None)] * len(cuts)]
    with torch.enable_grad():
        best = optimize.minimize(objective, begin, jac=True, bounds=bounds, method="L-BFGS-B").x
    cuts = np.concatenate([best[2:3], best[2] + np.cumsum(np.exp(best[3:]))])
    return float(best[0]), float(best[1]), cuts


def fit_shares(mean_loss: Callable[[float, float], float], rows: int) -> tuple[float, float]:
    """How much each of two should count, from 0 to 2, by the least mean loss of their weighed sum over the rows; few
    rows move the shares little from one half."""
    from scipy import optimize

    def objective(shares: np.ndarray) -> float:
        unusual = float(((shares - 0.5) ** 2).sum()) * _CAUTION / rows
        return mean_loss(float(shares[0]), float(shares[1])) + unusual

    best = optimize.minimize(objective, [0.5, 0.5], bounds=[(0, 2), (0, 2)]).x
    return float(best[0]), float(best[1])


def _least(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one valley is least, by golden sections."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(_ROUNDS):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = function(b)
    return (low + high) / 2


def fit_spread(below: np.ndarray, above: np.ndarray, error: np.ndarray, level: float) -> float:
    """How many times as wide central intervals must be to hold `level` of the truths: a quantile of how far the truths
    are out, in widths (as conformal prediction has it, arXiv 1905.03222), which has the least pinball loss. Each
    float64 [r]: how far the ends are from the mean, and the truth minus the mean. Some rows of a normal distribution,
    for which it would be 1, count as a prior."""
    side = np.maximum(np.where(error < 0, below, above), np.finfo(np.float64).tiny)
    normal = NormalDist()
    points = (np.arange(_PRIOR_POINTS) + 0.5) / _PRIOR_POINTS
    expected = np.array([normal.inv_cdf((1 + p) / 2) for p in points]) / normal.inv_cdf((1 + level) / 2)
    ratio = np.concatenate([np.abs(error) / side, expected])
    weight = np.concatenate([np.ones(len(error)), np.full(_PRIOR_POINTS, _PRIOR_ROWS / _PRIOR_POINTS)])
    order = np.argsort(ratio, kind="stable")
    index = int(np.searchsorted(np.cumsum(weight[order]), level * weight.sum()))
    bound = math.exp(_LOG_BOUND)
    return float(np.clip(ratio[order[min(index, len(order) - 1)]], 1 / bound, bound))


def interval_score(low: np.ndarray, high: np.ndarray, truth: np.ndarray, level: float) -> float:
    """The mean width of central intervals [r] and what misses cost; less is better."""
    missed = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return float((high - low + 2 / (1 - level) * missed).mean())
