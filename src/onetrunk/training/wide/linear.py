"""Logistic or ridge regression of a wide read-out, its penalty chosen by cross-validation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from onetrunk.columns.families.baselines.model_selection import climb
from onetrunk.model.wide import WideReadout
from onetrunk.training.wide.rows import FLOOR, Rows, Tried, mean_loss

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from onetrunk.training.wide.features import Design

_STRENGTHS = tuple(10.0 ** (e / 2) for e in range(6, -8, -1))  # of the penalty, from the strongest
_USUAL, _USUAL_OF_TEXTS = 5, 9  # where the search begins: 3, and .03 where each row's features have length 1
_LEAST_STRENGTH = 3.0  # by the number of rows
_PROBED_ROWS, _PROBED_SHARE = 4000, 0.1  # of so many rows a part tells how long all take
_LEAST_ROWS = 2000  # that are learnt from however short time is
_TRIES = 4  # penalties that a search takes, as a rule
_EVERY = "all"  # features
_CLOSE = 1.1  # times the least loss by the usual penalty: what has more is not worth a penalty of its own
_FEWER_ROWS = "{:.0%} of the rows in the linear part (a larger --budget learns from them too)"
_FEWER_PENALTIES = "other penalties of the linear part (a larger --budget tries them)"


def choose_linear(
    design: csr_matrix, rows: Rows, folds: Sequence[np.ndarray], until: float | None, views: Mapping[str, np.ndarray]
) -> Tried:
    """The features and the penalty with the least loss on held-out rows: all features, or those of one of the `views`
    (bool [all]). What is close to the best at the usual penalty gets a penalty of its own, from the usual one on as
    long as the loss falls. Where time is short fewer folds judge, only a part of the rows is learnt from, and views are
    not tried."""
    every = _Search(design, rows, folds, until)
    searches = {_EVERY: every}
    if views and every.tries >= _TRIES + len(views):
        for name, view in views.items():
            searches[name] = _Search(design[:, view], rows, folds, until)
            searches[name].judging = every.judging  # on the same rows
    at_usual = {name: search.judged(search.usual) for name, search in searches.items()} if len(searches) > 1 else {}
    close = [name for name in at_usual if at_usual[name] <= _CLOSE * min(at_usual.values())] or [_EVERY]
    tried = {name: searches[name].climbed() for name in sorted(close, key=lambda name: at_usual.get(name, 0.0))}
    best = min(tried, key=lambda name: tried[name].score)
    if best == _EVERY:
        return tried[best]
    return _in_view(tried[best], best, views[best])


def _in_view(tried: Tried, name: str, view: np.ndarray) -> Tried:
    """The same, with a weight of 0 for what it does not look at."""

    def fitted() -> tuple[np.ndarray, np.ndarray]:
        weights, bias = tried.fitted()
        every = np.zeros((len(view), weights.shape[1]))
        every[view] = weights
        return every, bias

    return replace(tried, chosen={**tried.chosen, "of texts": name}, fitted=fitted)


class _Search:
    """For the penalty of a linear model of a design [m, A], within the time that there is."""

    def __init__(self, design: csr_matrix, rows: Rows, folds: Sequence[np.ndarray], until: float | None) -> None:
        self.design, self.rows, self.folds, self.until = design, rows, folds, until
        texts = any(own.sparse[kind].counted for own in rows.features.values() for kind in own.sparse)
        self.usual = _USUAL_OF_TEXTS if texts else _USUAL
        self.share, self._rng = 1.0, np.random.default_rng(0)
        self._known: dict[tuple[int, int], np.ndarray] = {}
        self.once = _seconds_of_one(design, rows, _STRENGTHS[self.usual])
        if until is not None and 2 * self.once < until - time.monotonic():
            self.held_out(0, self.usual)  # a part tells roughly, and this how long it is
        left = np.inf if until is None else max(0.0, until - time.monotonic())
        self.share = min(1.0, max(_LEAST_ROWS / rows.count, left / max(self.once * (len(folds) + 1), 1e-9)))
        self.judging = int(np.clip(left / max(self.once * _TRIES, 1e-9) - 1, 1, len(folds)))
        self.tries = left / max(self.once * self.judging, 1e-9)

    def fit(self, learnt: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rows
        if self.share < 1:
            learnt = np.sort(self._rng.permutation(learnt)[: round(self.share * len(learnt))])
        return fit_linear(self.design[learnt], rows.target[learnt], rows.weight[learnt], rows.classes, strength)

    def held_out(self, k: int, index: int) -> np.ndarray:
        if (k, index) not in self._known:
            every, began = np.arange(self.rows.count), time.monotonic()
            weights, bias = self.fit(np.setdiff1d(every, self.folds[k]), _STRENGTHS[index])
            self.once = (time.monotonic() - began) * len(self.folds) / (len(self.folds) - 1)
            self._known[k, index] = self.design[self.folds[k]] @ weights + bias
        return self._known[k, index]

    def judged(self, index: int) -> float:
        """The mean loss on the rows of the folds that judge."""
        outputs = np.concatenate([self.held_out(k, index) for k in range(self.judging)])
        return mean_loss(self.rows, outputs, np.concatenate(self.folds[: self.judging]))

    def loss(self, index: int) -> float | None:
        """The same; None where the penalty is too weak, or no time is left for it."""
        if _STRENGTHS[index] < _LEAST_STRENGTH / self.rows.count:  # few rows told apart would make it sure of all
            return None
        needed = (self.judging + len(self.folds)) * self.once
        if index != self.usual and self.until is not None and time.monotonic() + needed > self.until:
            return None
        return self.judged(index)

    def climbed(self) -> Tried:
        best, tried = climb(self.loss, len(_STRENGTHS), self.usual)
        outputs = np.empty((self.rows.count, max(1, self.rows.classes)))
        for k, fold in enumerate(self.folds):
            outputs[fold] = self.held_out(k, best)
        strength, every = _STRENGTHS[best], np.arange(self.rows.count)
        left_out = ""
        if self.share < 1:
            left_out = _FEWER_ROWS.format(1 - self.share)
        elif len(tried) < 2:
            left_out = _FEWER_PENALTIES
        score = mean_loss(self.rows, outputs)
        return Tried(outputs, score, {"penalty": strength}, lambda: self.fit(every, strength), left_out)


def _seconds_of_one(design: csr_matrix, rows: Rows, strength: float) -> float:
    """About how long one fit of all rows takes, from a part of them where they are many."""
    import sklearn.linear_model  # noqa: F401 - importing it takes longer than a small fit

    part = np.arange(rows.count)
    if rows.count > _PROBED_ROWS:
        part = np.sort(np.random.default_rng(0).permutation(rows.count)[: round(_PROBED_SHARE * rows.count)])
    began = time.monotonic()
    fit_linear(design[part], rows.target[part], rows.weight[part], rows.classes, strength)
    return (time.monotonic() - began) * rows.count / len(part)


def fit_linear(
    x: csr_matrix, target: np.ndarray, weight: np.ndarray, classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [A, K] and bias [K] of a logistic or ridge regression."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits

    if not classes:
        model = Ridge(strength, solver="lsqr", tol=1e-4).fit(x, target, sample_weight=weight)
        return model.coef_.reshape(-1, 1), np.array([float(model.intercept_)])
    if target.ndim == 2:
        columns = [fit_linear(x, hot.astype(np.int64), weight, 2, strength) for hot in target.T]
        return (
            np.stack([2 * w[:, 1] for w, _ in columns], axis=1),
            np.array([2 * b[1] for _, b in columns]),
        )
    weights, bias = np.zeros((x.shape[1], classes)), np.full(classes, FLOOR)
    there = np.unique(target)
    if len(there) == 1:
        bias[there] = 0
        return weights, bias
    with threadpool_limits(1):  # the many small products of a fit wait for each other's threads longer than they take
        model = LogisticRegression(C=1 / strength, max_iter=300, tol=1e-3).fit(x, target, sample_weight=weight)
    if len(there) == 2:  # one number says it all: half of it for, half against
        weights[:, there[0]], weights[:, there[1]] = -model.coef_[0] / 2, model.coef_[0] / 2
        bias[there] = -model.intercept_[0] / 2, model.intercept_[0] / 2
    else:
        weights[:, there], bias[there] = model.coef_.T, model.intercept_
    return weights, bias


def set_linear(readout: WideReadout, rows: Rows, design: Design, fitted: tuple[np.ndarray, np.ndarray]) -> None:
    """Puts weights of a design's features in the read-out, which sees them as they are."""
    weights, bias = fitted
    weights, bias = weights / design.scale[:, None], bias.copy()
    first = 0
    for name in rows.features:
        column, start = readout.column(name), first
        for i in range(len(column.kinds)):
            part = getattr(column, f"weight{i}")
            part.copy_(torch.from_numpy(weights[first : first + len(part)]))
            first += len(part)
        centred = design.centre[start:first] @ weights[start:first]  # of present values, not of missing ones
        bias -= centred
        column.missing.copy_(torch.from_numpy(weights[first] + centred))
        first += 1
    readout.bias.copy_(torch.from_numpy(bias))
