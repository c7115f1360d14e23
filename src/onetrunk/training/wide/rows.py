"""Labelled rows as simple models see them: how they are held out in turn, and how wrong outputs are on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrunk.core.encoder import reads_on
from onetrunk.core.wide import WideFeatures, WideTarget
from onetrunk.data.store import Store
from onetrunk.inference.wide_outputs import features_of, rows_at_once

FOLDS, _FEW_FOLDS = 5, 3
_MANY_ROWS = 5000  # from here on few folds tell enough
FLOOR = -12.0  # logit of a class that no row had


@dataclass
class Rows:
    """Labelled rows: the features of their given columns, and what is asked, standardised or as class numbers."""

    rows: np.ndarray  # int64 [m], of the store
    features: dict[str, WideFeatures]
    present: dict[str, np.ndarray]
    target: np.ndarray  # int64 or float64 [m]; of several classes at once float32 [m, K]
    weight: np.ndarray  # float64 [m]
    classes: int  # 0: a number
    group: np.ndarray | None = None  # int64 [m]: what is held out together, parts of one row; None: each alone

    @property
    def count(self) -> int:
        return len(self.target)

    def blocks(self) -> Iterator[tuple[dict[str, WideFeatures], dict[str, np.ndarray], int]]:
        """Features and present values of as many rows as a read-out takes at once, and how many these are."""
        size = rows_at_once(self.features, self.count)
        for first in range(0, self.count, size):
            last = min(first + size, self.count)
            ends = {name: np.searchsorted(there, (first, last)).tolist() for name, there in self.present.items()}
            features = {name: own.between(*ends[name]) for name, own in self.features.items()}
            yield features, {name: self.present[name][a:b] - first for name, (a, b) in ends.items()}, last - first

    def weights(self, chosen: np.ndarray) -> np.ndarray | None:
        """None where all weigh alike: weighed quantiles take boosting a hundred times as long as plain ones."""
        weight = self.weight[chosen]
        return None if len(weight) and (weight == weight[0]).all() else weight


@dataclass
class Tried:
    """One member, cross-validated; `fitted` learns from all rows."""

    held_out: np.ndarray  # float64 [m, K]
    score: float
    chosen: Any
    fitted: Callable[[], Any]
    left_out: str = ""  # for lack of time


def wide_rows(store: Store, given: Sequence[str], ask: str, labelled: np.ndarray) -> Rows | None:
    """The labelled rows of a store, as far as there is something to learn; None where the asked column has no wide
    read-out, or no given column has features."""
    c = store.names.index(ask)
    encoder = store.encoders[c]
    labelled = labelled[store.index[labelled, c] >= 0]
    if not isinstance(encoder, WideTarget) or reads_on(encoder) is not None:
        return None
    content = store.contents[c].take(store.index[labelled, c])
    target, classes = encoder.wide_target(content)
    there = target >= 0 if classes else np.isfinite(target)
    learnt = there if target.ndim == 1 else np.ones(len(target), dtype=bool)
    rows, target = labelled[learnt], target[learnt]
    shares = encoder.wide_shares(content)
    part, share = np.arange(len(rows)), np.ones(len(rows))
    if shares is not None:  # a row of which each class has a share is as many rows, which weigh that much
        part, target = np.nonzero(shares[learnt])
        share, rows = shares[learnt][part, target].astype(np.float64), rows[part]
    names = [name for name in given if name != ask and name in store.names]
    features, present = features_of(store, names, rows)
    weight = np.ones(len(rows)) if store.row_weight is None else store.row_weight[rows].astype(np.float64)
    if not features:
        return None
    return Rows(rows, features, present, target, weight * share, classes, None if shares is None else part)


def mean_loss(rows: Rows, outputs: np.ndarray, chosen: np.ndarray | None = None) -> float:
    """Mean log loss (nats) or squared error of weighed rows, all or those chosen, whose outputs these are."""
    target, weight = (rows.target, rows.weight) if chosen is None else (rows.target[chosen], rows.weight[chosen])
    if not rows.classes:
        each = (outputs[:, 0] - target) ** 2
    elif target.ndim == 2:
        each = np.logaddexp(0, outputs * (1 - 2 * target)).mean(1)
    else:
        top = outputs.max(1, keepdims=True)
        each = (top + np.log(np.exp(outputs - top).sum(1, keepdims=True)))[:, 0] - outputs[
            np.arange(len(target)), target
        ]
    return float(np.average(each, weights=weight))


def folds_of(rows: Rows, seed: int) -> list[np.ndarray]:
    """Rows held out in turn; of every class its share."""
    count = FOLDS if rows.count <= _MANY_ROWS else _FEW_FOLDS
    if rows.group is not None:
        groups = np.random.default_rng(seed).permutation(int(rows.group.max()) + 1)
        return [np.flatnonzero(np.isin(rows.group, groups[k::count])) for k in range(count)]
    order = np.random.default_rng(seed).permutation(rows.count)
    if rows.classes and rows.target.ndim == 1:
        order = order[np.argsort(rows.target[order], kind="stable")]
    return [np.sort(order[k::count]) for k in range(count)]
