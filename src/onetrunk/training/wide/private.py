"""Fits the linear part of a wide read-out to classes with differential privacy: features that were made by hand, and on
them a linear model, are what learns most from rows that noise hides (Tramèr and Boneh, arXiv 2011.11660).

Which features there are is learnt from no row: they are hashed. Those of a row have a length of 1 at most, so that the
noise that its answer meets does not grow with their number (Song et al., arXiv 2006.06783). Every row is in every step:
then a promise costs the least noise beside what rows say, and a step is two products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack

from onetrunk.core.secret import Secret
from onetrunk.engine.private import Privacy, bounded
from onetrunk.model.wide import WideReadout, WideShape
from onetrunk.training.wide.features import design_of
from onetrunk.training.wide.linear import set_linear
from onetrunk.training.wide.rows import Rows, mean_loss

STEPS = 120
_BUCKETS = 1 << 12  # of each kind of features
_MOST_MOVED = 30_000.0  # clipped gradients
_MOMENTUM = 0.9
_AVERAGED = 0.5  # of the steps, the last ones: the mean of their weights is the model (arXiv 2204.13650)


def hashed_readout(rows: Rows) -> WideReadout:
    """One that says nothing yet, of rows that have one class each."""
    kinds = {name: list(own.sparse) for name, own in rows.features.items()}
    counted = {name: [kind for kind in kinds[name] if own.sparse[kind].counted] for name, own in rows.features.items()}
    buckets = {name: dict.fromkeys(each, _BUCKETS) for name, each in kinds.items()}
    return WideReadout(WideShape(list(kinds), rows.classes, buckets, counted=counted, hashed=True))


def fit_private(
    readout: WideReadout,
    rows: Rows,
    privacy: Privacy,
    eps: float,
    secret: Secret,
    on_step: Callable[[int, float], None],
) -> None:
    """Fits a hashed read-out to its rows. `on_step` is told how many steps are done and the mean loss before the last,
    which is not private."""
    design = design_of(readout, rows)
    parts = 1 + sum(map(len, readout.shape.features.values()))  # of length 1 at most: each kind's, and the constant
    share = np.float32(1 / np.sqrt(parts))
    constant = csr_matrix(np.ones((rows.count, 1), dtype=np.float32))
    x = hstack([design.x, constant], dtype=np.float32).tocsr() * share
    weights = share * _descended(x, rows, privacy, eps, secret, on_step)
    set_linear(readout, rows, design, (weights[:-1], weights[-1]))


def _descended(
    x: csr_matrix, rows: Rows, privacy: Privacy, eps: float, secret: Secret, on_step: Callable[[int, float], None]
) -> np.ndarray:
    """The weights of logistic regression [A, K], by noisy gradient descent with momentum from zero."""
    hot = np.eye(rows.classes, dtype=np.float32)[rows.target]
    length = np.sqrt(np.asarray(x.multiply(x).sum(1), dtype=np.float32))[:, 0]
    across = x.T.tocsr()
    weights = np.zeros((x.shape[1], rows.classes), dtype=np.float32)
    velocity, mean = np.zeros_like(weights), np.zeros_like(weights)
    first = int(_AVERAGED * privacy.steps)
    rate = _moved(rows.count, eps) * (1 - _MOMENTUM) / (privacy.steps * privacy.clip)
    for step in range(privacy.steps):
        outputs = x @ weights
        wrong = torch.from_numpy(outputs).softmax(1).numpy() - hot
        norms = torch.from_numpy(length * np.sqrt((wrong**2).sum(1)))
        wrong *= bounded(norms, privacy.clip).numpy()[:, None]
        noise = np.asarray(secret.generator("noise", step).standard_normal(weights.shape), dtype=np.float32)
        velocity = _MOMENTUM * velocity + (across @ wrong + privacy.noise * privacy.clip * noise) / privacy.rows
        weights -= np.float32(rate) * velocity
        if step >= first:
            mean += weights / (privacy.steps - first)
        on_step(step + 1, mean_loss(rows, outputs))
    return mean


def _moved(rows: int, eps: float) -> float:
    """How far weights can go in all steps, in clipped gradients: the noise on them grows with it, and falls with rows
    times epsilon. On validation rows of digits, photographs and people's incomes, a third and three times as much were
    as good or worse at epsilon 1, 3 and 8."""
    return min(_MOST_MOVED, rows * eps)
