"""Fits a wide read-out (`model.wide`): a linear model of n-grams and classes, and boosted trees, in the best mixture.

Everything is chosen by cross-validation on a proper score (log loss, squared error): the regularisation, how many
trees, how much each of the two counts. What each row gets in training is what models say that did not learn from it, so
that the trunk learns what is left to learn, and not what the wide read-out knows by heart.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from onetrunk.model.wide import WideReadout
from onetrunk.nn.heads.calibration import fit_shares
from onetrunk.training.wide.features import design_of, kinds_of_texts, learn_features, shape_of
from onetrunk.training.wide.linear import choose_linear, set_linear
from onetrunk.training.wide.rows import FOLDS, Rows, folds_of, mean_loss, wide_rows
from onetrunk.training.wide.trees import choose_trees, with_trees

__all__ = ["FittedWide", "Rows", "fit_wide", "wide_rows"]

_MAX_OUTPUTS = 50_000_000  # rows times outputs


@dataclass
class FittedWide:
    """`held_out` float32 [rows, K] is what each row gets from models that did not see it; `scores` what was tried, each
    as its mean loss on held-out rows (nats, or squared error in standard units)."""

    readout: WideReadout
    held_out: np.ndarray
    scores: dict[str, float]
    seconds: float
    residuals: np.ndarray | None = None  # of numbers, what is left beside that, float64 [rows]
    chosen: dict[str, Any] = field(default_factory=dict)
    left_out: str = ""  # what was not tried, and why

    def as_json(self) -> dict[str, Any]:
        """What was tried, what was chosen, what was left out, and how long it took."""
        record = {"scores": self.scores, "chosen": self.chosen, "seconds": round(self.seconds, 1)}
        return {**record, "left_out": self.left_out} if self.left_out else record


def fit_wide(rows: Rows, seed: int = 0, limit: float | None = None) -> FittedWide | None:
    """None where there is too little to learn from, or too many classes. Within about `limit` seconds: what there was
    no time for is said in `left_out`."""
    started = time.monotonic()
    until = None if limit is None else started + limit
    outputs = max(1, rows.classes)
    if rows.count < 2 * FOLDS or rows.count * outputs > _MAX_OUTPUTS:
        return None
    if rows.classes and rows.target.ndim == 1 and len(np.unique(rows.target)) < 2:
        return None
    folds = folds_of(rows, seed)
    readout = WideReadout(shape_of(rows, outputs))
    learn_features(readout, rows, seed)
    design = design_of(readout, rows)
    half = None if until is None else (time.monotonic() + until) / 2
    linear = choose_linear(design.x, rows, folds, half, kinds_of_texts(readout, rows))
    scores, left_out = {"linear": linear.score}, [linear.left_out]
    trees, why = choose_trees(readout, rows, folds, seed, until)
    mix = np.array([1.0, 0.0])
    held_out = linear.held_out
    if trees is not None:
        scores["trees"] = trees.score
        mix = _mix(rows, linear.held_out, trees.held_out)
        held_out = mix[0] * linear.held_out + mix[1] * trees.held_out
        scores["both"] = mean_loss(rows, held_out)
        readout = with_trees(readout, rows, trees.fitted())
    left_out.append(why if trees is None else trees.left_out)
    set_linear(readout, rows, design, linear.fitted())
    readout.mix.copy_(torch.from_numpy(mix))
    chosen = {**linear.chosen, "trees": 0 if trees is None else trees.chosen, "mix": mix.tolist()}
    residuals = None if rows.classes else rows.target - held_out[:, 0]
    return FittedWide(
        readout,
        held_out.astype(np.float32),
        scores,
        time.monotonic() - started,
        residuals,
        chosen,
        "; ".join(filter(None, left_out)),
    )


def _mix(rows: Rows, linear: np.ndarray, trees: np.ndarray) -> np.ndarray:
    """How much each counts, never less than nothing: by the least loss on held-out rows."""
    return np.array(fit_shares(lambda a, b: mean_loss(rows, a * linear + b * trees), rows.count))
