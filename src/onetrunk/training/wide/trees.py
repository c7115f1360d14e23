"""Boosted trees of a wide read-out, their number chosen by cross-validation.

Besides numbers they see, for every class or text that repeats, the mean of what is asked over its rows (target
encoding); a row that is learnt from gets it of the other rows only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from onetrunk.model.wide import WideReadout, WideShape, as_known
from onetrunk.nn.heads.trees import TreeEnsemble, Trees, mean, trees_of
from onetrunk.training.wide.rows import FLOOR, FOLDS, Rows, Tried, mean_loss

_MAX_CLASSES = 30
_ROUNDS, _PATIENCE = 500, 15
_RATE, _MOST_RATE = 0.06, 0.2
_FULL_ROUNDS, _LEAST_ROUNDS = 200, 30  # that the rate is meant for; fewer learn faster, and too few are not worth it
_PROBED_ROUNDS = 8
_MEMBERS = 3  # whose mean errs less than each
_PART = 0.5  # of the features, by which members differ more and err less together
_SMALL_TABLE = 500_000  # cells
_LEAST_OF_CLASS = 5  # rows, for stopping early: it holds out some of every class
_SMOOTHING = 10.0  # rows that the mean over all counts beside those of a value
_NO_TIME = "boosted trees, which would have taken too long (a larger --budget tries them)"
_ONE_MEMBER = "the mean of several ensembles of boosted trees (a larger --budget tries it)"
_FEWER_ROUNDS = "more than {} rounds of boosted trees (a larger --budget tries them)"


def choose_trees(
    readout: WideReadout, rows: Rows, folds: Sequence[np.ndarray], seed: int, until: float | None
) -> tuple[Tried | None, str]:
    """None where trees see nothing or the answers are not for them (many classes, several at once), and where they
    would take too long: that is then said. Splits look at all features, or at a random part of them, and then the trees
    are the mean of several ensembles if there is time: whichever is better on the first fold."""
    inputs = _TreeInputs(readout, rows)
    if rows.classes > _MAX_CLASSES or rows.target.ndim == 2 or not inputs.width:
        return None, ""
    every = np.arange(rows.count)
    if rows.classes and min(len(np.unique(rows.target[np.setdiff1d(every, held)])) for held in folds) < 2:
        return None, ""
    most = _affordable_rounds(inputs, rows, folds, seed, until)
    if most < _LEAST_ROUNDS:
        return None, _NO_TIME
    stops = rows.group is None and (  # stopping early holds rows out, and would part those that belong together
        not rows.classes
        or np.bincount(rows.target).min(initial=rows.count, where=np.bincount(rows.target) > 0) >= 2 * _LEAST_OF_CLASS
    )
    several = most >= _MEMBERS * _ROUNDS
    most = min(most, _ROUNDS)
    one = _Setting(seed, most if stops else min(most, _FULL_ROUNDS // 2), _rate(most), stops)
    settings = [one, replace(one, share=_PART, members=_MEMBERS if several else 1)]

    def learnt(setting: _Setting, held: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """Answers to these rows, by what learns from the others; in how many rounds."""
        rest = np.setdiff1d(every, held)
        x, new = inputs.to_learn(rest), inputs.to_answer(held, rest)
        fitted = _fitted(setting, rows, x, rest)
        return np.mean([_raw(each, new, rows.classes) for each in fitted], axis=0), [each.n_iter_ for each in fitted]

    began = time.monotonic()
    firsts = [learnt(each, folds[0]) for each in settings]
    best = int(np.argmin([mean_loss(rows, outputs, folds[0]) for outputs, _ in firsts]))
    setting = settings[best]
    if until is not None:  # less is left on a busy machine than was planned
        a_round = (time.monotonic() - began) / sum(sum(rounds) for _, rounds in firsts)
        left = (until - time.monotonic()) / max(a_round * len(folds) * setting.members, 1e-9)
        if left < min(_LEAST_ROUNDS, float(np.mean(firsts[best][1]))):
            return None, _NO_TIME
        setting = replace(setting, rounds=min(setting.rounds, int(left)))
    by_fold = [firsts[best], *(learnt(setting, held) for held in folds[1:])]
    held_out, used = np.zeros((rows.count, max(1, rows.classes))), [n for _, counts in by_fold for n in counts]
    for held, (outputs, _) in zip(folds, by_fold, strict=True):
        held_out[held] = outputs
    grown = len(folds) / (len(folds) - 1) * 0.95  # all rows take more rounds than those of a fold
    count = int(np.clip(round(float(np.mean(used)) * grown), 1, setting.rounds))

    def fitted() -> Trees:
        inputs.keep_means(every)
        estimators = _fitted(replace(setting, rounds=count, stops=False), rows, inputs.to_learn(every), every)
        return mean([_as_outputs(trees_of(each), each, rows.classes) for each in estimators])

    left_out = "" if several else _ONE_MEMBER
    if most < _FULL_ROUNDS and max(used) == most:
        left_out = _FEWER_ROUNDS.format(most)
    return Tried(held_out, mean_loss(rows, held_out), count * setting.members, fitted, left_out), ""


@dataclass(frozen=True)
class _Setting:
    """Of boosted trees. `share` is the part of the features that each split looks at, drawn anew, by which `members`
    differ."""

    seed: int
    rounds: int
    rate: float
    stops: bool  # where nothing more is gained on rows that it holds out
    share: float = 1.0
    members: int = 1


def _rate(most: int) -> float:
    """So many rounds learn all that there is."""
    return float(np.clip(_RATE * _FULL_ROUNDS / most, _RATE, _MOST_RATE))


def _affordable_rounds(
    inputs: _TreeInputs, rows: Rows, folds: Sequence[np.ndarray], seed: int, until: float | None
) -> int:
    """How many rounds there is time for, in every fold and twice more."""
    if until is None:
        return _MEMBERS * _ROUNDS
    rest = np.setdiff1d(np.arange(rows.count), folds[0])
    x = inputs.to_learn(rest)

    def seconds(rounds: int) -> float:
        began = time.monotonic()
        _fitted(_Setting(seed, rounds, _RATE, False), rows, x, rest)
        return time.monotonic() - began

    start = seconds(1)  # which sorts the values first
    a_round = max(seconds(1 + _PROBED_ROUNDS) - start, 0.0) / _PROBED_ROUNDS
    left = until - time.monotonic() - (len(folds) + 2) * start
    return int(np.clip(left / max(1.2 * a_round * (len(folds) + 2), 1e-9), 0, _MEMBERS * _ROUNDS))


def _fitted(setting: _Setting, rows: Rows, x: np.ndarray, learnt: np.ndarray) -> list[Any]:
    """The members, boosted trees of these rows, whose features float64 [learnt, F] are."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if rows.classes else HistGradientBoostingRegressor
    members = [
        kind(
            learning_rate=setting.rate, max_leaf_nodes=15, min_samples_leaf=10, l2_regularization=1.0,
            max_features=setting.share, random_state=setting.seed + k, max_iter=setting.rounds,
            early_stopping=setting.stops, n_iter_no_change=_PATIENCE,
        )
        for k in range(setting.members)
    ]  # fmt: skip
    for member in members:
        _learn(member, x, rows.target[learnt], rows.weights(learnt))
    return members


def _learn(estimator: Any, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> None:
    """Fits it; on small tables with one thread, since several would wait for each other longer than they work."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if x.size < _SMALL_TABLE else None):
        estimator.fit(x, target, weight)


class _TreeInputs:
    """What trees see of rows: numbers that are as they are, and means of what is asked over the rows of each value,
    which a row that is learnt from gets of the other rows only."""

    def __init__(self, readout: WideReadout, rows: Rows) -> None:
        self.rows, self.readout = rows, readout
        for name, own in rows.features.items():
            if own.key is not None and hasattr(column := readout.column(name), "key"):
                column.key.copy_(torch.from_numpy(as_known(np.unique(own.key))))
        with torch.no_grad():
            numbers = [readout.linear_and_numbers(readout.tensors(features, present), count)[1]
                       for features, present, count in rows.blocks()]  # fmt: skip
        self.numbers = torch.cat(numbers).numpy()
        self.width = self.numbers.shape[1]
        self.target = np.eye(rows.classes)[rows.target] if rows.classes and rows.target.ndim == 1 else rows.target
        self.target = self.target.reshape(rows.count, -1)
        self._values: dict[str, tuple[np.ndarray, int, slice]] = {}  # each row's value, how many, where its means stand
        last = 0
        for name, own in rows.features.items():
            last += readout.column(name).numbers
            if own.key is not None and hasattr(readout.column(name), "key"):
                values, place = np.unique(own.key, return_inverse=True)
                of_rows = np.full(rows.count, len(values))
                of_rows[rows.present[name]] = place
                self._values[name] = of_rows, len(values), slice(last - self.target.shape[1], last)

    def to_answer(self, chosen: np.ndarray, learnt: np.ndarray) -> np.ndarray:
        """float64 [chosen, F], with means of the rows that were learnt from."""
        numbers = self.numbers[chosen].copy()
        for name, (value, count, where) in self._values.items():
            mean, overall = self._means(name, learnt)
            mine = value[chosen]
            numbers[mine < count, where] = np.vstack([mean, overall])[mine[mine < count]]
        return numbers

    def to_learn(self, chosen: np.ndarray) -> np.ndarray:
        """float64 [chosen, F]"""
        numbers = np.empty((len(chosen), self.width))
        if not self._values:
            return self.numbers[chosen]
        order = np.random.default_rng(0).permutation(len(chosen))
        for part in np.array_split(order, FOLDS):
            numbers[part] = self.to_answer(chosen[part], np.delete(chosen, part))
        return numbers

    def keep_means(self, learnt: np.ndarray) -> None:
        """Puts the means of these rows in the read-out."""
        for name in self._values:
            mean, overall = self._means(name, learnt)
            self.readout.column(name).key_mean.copy_(torch.from_numpy(mean))
            self.readout.column(name).any_mean.copy_(torch.from_numpy(overall))

    def _means(self, name: str, learnt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each value, drawn towards the mean of all: [values, K], [K]."""
        value, count, _ = self._values[name]
        overall = self.target[learnt].mean(0)
        there = learnt[value[learnt] < count]
        sums = np.stack([np.bincount(value[there], column, count) for column in self.target[there].T], axis=1)
        of_value = np.bincount(value[there], minlength=count)[:, None]
        return (sums + _SMOOTHING * overall) / (of_value + _SMOOTHING), overall


def _raw(estimator: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """float64 [r, K]"""
    if not classes:
        return estimator.predict(x)[:, None]
    scores = np.full((len(x), classes), FLOOR)
    raw = np.asarray(estimator.decision_function(x)).reshape(len(x), -1)
    there = estimator.classes_.astype(int)
    scores[:, there] = np.hstack([-raw / 2, raw / 2]) if len(there) == 2 else raw
    return scores


def _as_outputs(trees: Trees, estimator: Any, classes: int) -> Trees:
    """The estimator's trees, each adding to the outputs of the column."""
    if not classes:
        return trees
    there = estimator.classes_.astype(int)
    baseline = np.full(classes, FLOOR, dtype=np.float32)
    if len(there) > 2:
        baseline[there] = trees.baseline
        return replace(trees, output=there[trees.output], baseline=baseline)
    baseline[there] = 0.0, trees.baseline[0]  # of two classes only the difference counts
    return replace(trees, output=np.full_like(trees.output, there[1]), baseline=baseline)


def with_trees(readout: WideReadout, rows: Rows, trees: Trees) -> WideReadout:
    """The read-out with these trees, which its shape then names."""
    shape = WideShape(**{**vars(readout.shape), "trees": (*trees.feature.shape, trees.depth)})
    made = WideReadout(shape)
    made.load_state_dict(readout.state_dict(), strict=False)
    made.trees = TreeEnsemble.of(trees)
    return made
