"""Logistic or ridge regression of a wide read-out, its penalty chosen by cross-validation."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from onetrunk.columns.families.baselines.linear import fit_logistic
from onetrunk.columns.families.baselines.model_selection import climb
from onetrunk.model.wide import WideReadout
from onetrunk.nn.heads.calibration import fit_shares
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
_WORTH = 0.005  # of the loss: what another view must gain to be added
_CLOSE = 1.1  # times the least loss by the usual penalty: what has more is not worth a penalty of its own
_FEWER_ROWS = "{:.0%} of the rows in the linear part (a larger --budget learns from them too)"
_FEWER_VIEWS = "other views of the texts in the linear part (a larger --budget tries them)"
_FEWER_PENALTIES = "other penalties of the linear part (a larger --budget tries them)"


def choose_linear(
    design: csr_matrix, rows: Rows, folds: Sequence[np.ndarray], until: float | None, texts: Mapping[str, np.ndarray]
) -> Tried:
    """The linear model with the least loss on held-out rows, its penalty found from the usual one on, as long as the
    loss falls.

    Of `texts` (which features are words, which are characters, bool [all] each) it sees both or one kind, as they are
    or rated. Each such view that is close to the best at the usual penalty gets a penalty of its own, and their sum,
    which is one linear model again, is taken as far as it is better. Where time is short fewer folds judge, only a part
    of the rows is learnt from, and there is one view: that is then said."""
    views = _views(texts, design.shape[1])
    rates = bool(texts) and rows.classes > 0 and rows.target.ndim == 1 and rows.group is None
    every = _Search(design, rows, folds, until)
    if len(views) < 2 and not rates:
        return every.climbed()
    if not every.plan(len(views) - 1 + _TRIES + rates * _TRIES, members=1 + rates):
        alone = every.climbed()
        return replace(alone, left_out=alone.left_out or _FEWER_VIEWS)
    searches = {name: every if name == _EVERY else every.of(view) for name, view in views.items()}
    at_usual = {name: search.judged(search.usual) for name, search in searches.items()}
    names = sorted(views, key=at_usual.__getitem__)
    close = [name for name in names if at_usual[name] <= _CLOSE * at_usual[names[0]]]
    members: dict[str, Tried] = {}
    for name in close:
        if members and not searches[name].enough_time:
            break
        members[name] = searches[name].climbed()
        if rates:
            counted = np.logical_or.reduce(list(texts.values()))
            members[f"{name}, rated"] = every.of(views[name], counted).climbed(members[name].chosen["penalty"])
    return _sum_of(members, rows)


def _views(texts: Mapping[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Which features, bool [width], a linear model can look at: all, or of texts one kind beside all that is not
    counted."""
    views = {_EVERY: np.ones(width, dtype=bool)}
    if len(texts) < 2:
        return views
    counted = np.logical_or.reduce(list(texts.values()))
    return views | {kind: ~counted | of_kind for kind, of_kind in texts.items()}


def _sum_of(members: Mapping[str, Tried], rows: Rows) -> Tried:
    """The best of these models, and of the others, in the order of their loss, those that make the sum better."""
    names = sorted(members, key=lambda name: members[name].score)
    held_out, score = members[names[0]].held_out, members[names[0]].score
    shares = {names[0]: 1.0}
    for name in names[1:]:
        pair = held_out, members[name].held_out
        a, b = fit_shares(partial(_loss_of_sum, rows, *pair), rows.count)
        mixed = a * pair[0] + b * pair[1]
        if mean_loss(rows, mixed) < (1 - _WORTH) * score:
            held_out, score = mixed, mean_loss(rows, mixed)
            shares = {**{before: a * share for before, share in shares.items()}, name: b}
    chosen = {"penalty": members[names[0]].chosen["penalty"], "of texts": shares}

    def fitted() -> tuple[np.ndarray, np.ndarray]:
        fits = [(share, *members[name].fitted()) for name, share in shares.items()]
        return sum(share * weights for share, weights, _ in fits), sum(share * bias for share, _, bias in fits)

    return Tried(held_out, score, chosen, fitted, members[names[0]].left_out)


def _loss_of_sum(rows: Rows, one: np.ndarray, other: np.ndarray, a: float, b: float) -> float:
    return mean_loss(rows, a * one + b * other)


class _Search:
    """For the penalty of a linear model of a design [m, A], within the time that there is."""

    view: np.ndarray | None = None  # bool [A]: the features that it looks at, if not at all
    rated: np.ndarray | None = None  # bool [A]: the features that are rated, if any

    def __init__(self, design: csr_matrix, rows: Rows, folds: Sequence[np.ndarray], until: float | None) -> None:
        self.design, self.rows, self.folds, self.until = design, rows, folds, until
        texts = any(own.sparse[kind].counted for own in rows.features.values() for kind in own.sparse)
        self.usual = self._first = _USUAL_OF_TEXTS if texts else _USUAL
        self._hurried = False  # was a penalty not tried for lack of time?
        self.share, self._rng = 1.0, np.random.default_rng(0)
        self._known: dict[tuple[int, int], np.ndarray] = {}
        self.once = _seconds_of_one(design, rows, _STRENGTHS[self.usual])
        if until is not None and 2 * self.once < until - time.monotonic():
            self.held_out(0, self.usual)  # a part tells roughly, and this how long it is
        self.share = min(1.0, max(_LEAST_ROWS / rows.count, self._fits / (len(folds) + 1)))
        self.judging = 1
        self.plan(_TRIES, members=1)

    @property
    def _fits(self) -> float:
        """How many there is time for."""
        left = np.inf if self.until is None else max(0.0, self.until - time.monotonic())
        return left / max(self.once, 1e-9)

    def plan(self, tries: int, members: int) -> bool:
        """Sets how many folds judge when so many settings are tried and some of them are then fitted in every fold. Is
        there time for that?"""
        every = len(self.folds)
        judging = (self._fits - members * every) / (tries - members)
        self.judging = int(np.clip(judging, 1, every))
        return judging >= 1

    def of(self, view: np.ndarray, rated: np.ndarray | None = None) -> _Search:
        """A search of the same rows that looks at these features [A] only, some of them rated."""
        search = copy.copy(self)
        search.design, search.view, search._known = self.design[:, view], view, {}
        search.rated = None if rated is None else rated[view]
        return search

    @property
    def enough_time(self) -> bool:
        """For two more searches with as many penalties as usual."""
        return self._fits > 2 * (self.judging * _TRIES + len(self.folds))

    def fit(self, learnt: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rows
        if self.share < 1:
            learnt = np.sort(self._rng.permutation(learnt)[: round(self.share * len(learnt))])
        x, target, weight = self.design[learnt], rows.target[learnt], rows.weight[learnt]
        if self.rated is None:
            return fit_linear(x, target, weight, rows.classes, strength)
        rating = np.where(self.rated, ratings(x, target, rows.classes), 1.0)
        weights, bias = fit_linear(x.multiply(rating[None]).tocsr(), target, weight, rows.classes, strength)
        return weights * rating[:, None], bias

    def fitted(self, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Of all rows, with weights of 0 for features that it does not look at."""
        weights, bias = self.fit(np.arange(self.rows.count), strength)
        if self.view is None:
            return weights, bias
        every = np.zeros((len(self.view), weights.shape[1]))
        every[self.view] = weights
        return every, bias

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
        needed = self.judging + len(self.folds)
        if index != self._first and self._fits < needed:
            self._hurried = True
            return None
        return self.judged(index)

    def climbed(self, first: float | None = None) -> Tried:
        """From this penalty on, else from the usual one."""
        self._first = self.usual if first is None else _STRENGTHS.index(first)
        best, tried = climb(self.loss, len(_STRENGTHS), self._first)
        outputs = np.empty((self.rows.count, max(1, self.rows.classes)))
        for k, fold in enumerate(self.folds):
            outputs[fold] = self.held_out(k, best)
        strength = _STRENGTHS[best]
        left_out = ""
        if self.share < 1:
            left_out = _FEWER_ROWS.format(1 - self.share)
        elif self._hurried and len(tried) < 2:
            left_out = _FEWER_PENALTIES
        score = mean_loss(self.rows, outputs)
        return Tried(outputs, score, {"penalty": strength}, lambda: self.fitted(strength), left_out)


def _seconds_of_one(design: csr_matrix, rows: Rows, strength: float) -> float:
    """About how long one fit of all rows takes, from a part of them where they are many."""
    import sklearn.linear_model  # noqa: F401 - importing it takes longer than a small fit

    part = np.arange(rows.count)
    if rows.count > _PROBED_ROWS:
        part = np.sort(np.random.default_rng(0).permutation(rows.count)[: round(_PROBED_SHARE * rows.count)])
    began = time.monotonic()
    fit_linear(design[part], rows.target[part], rows.weight[part], rows.classes, strength)
    return (time.monotonic() - began) * rows.count / len(part)


def ratings(x: csr_matrix, target: np.ndarray, classes: int) -> np.ndarray:
    """How much each feature of rows x [m, A] of classes `target` [m] tells, [A]: the root of the largest logarithm of
    its frequency in a class over that in the others, by counts with one more than seen. Naive Bayes' weights, which
    penalties of a linear model then respect (Wang & Manning 2012, "Baselines and Bigrams")."""
    from scipy.sparse import csr_matrix

    there = csr_matrix(((x.data > 0).astype(np.float32), x.indices, x.indptr), shape=x.shape)
    of_class = csr_matrix(
        (np.ones(len(target), dtype=np.float32), target, np.arange(len(target) + 1)), (len(target), classes)
    )
    counts = np.asarray((of_class.T @ there).todense(), dtype=np.float64) + 1  # [K, A]
    others = counts.sum(0) - counts
    logs = np.log(counts / counts.sum(1, keepdims=True)) - np.log(others / others.sum(1, keepdims=True))
    return np.sqrt(np.abs(logs).max(0))


def fit_linear(
    x: csr_matrix, target: np.ndarray, weight: np.ndarray, classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [A, K] and bias [K] of a logistic or ridge regression."""
    from sklearn.linear_model import Ridge

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
    model = fit_logistic(x, target, strength, weight)
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
