"""Gradient boosted trees on numbers, on means of what is asked for each value of a class, and on texts in few numbers.

Their size and number are chosen by cross-validation, as far as there is time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from onetrunk.columns.families.baselines.estimators import ViewsClassifier, ViewsEstimator, ViewsRegressor
from onetrunk.columns.families.baselines.model_selection import (
    Deadline,
    TooLong,
    folds_of,
    rest_of,
)
from onetrunk.columns.families.baselines.views import Views

_SETTINGS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.06, "max_leaf_nodes": 15, "min_samples_leaf": 10, "l2_regularization": 1.0},
    {"learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 20},
)
_ROUNDS, _PATIENCE = 500, 15
_PROBED_ROUNDS = 5
_MIN_ROUNDS = 20  # with fewer they are not worth to be compared with
_FULL_ROUNDS = 100  # with fewer in each fold one fold has to do
_COMPONENTS = 30
_INNER_FOLDS = 5
_SMOOTHING = 10.0  # rows that the mean over all counts beside those of a value


class _Boosting(ViewsEstimator):
    """After `fit`: `settings_`, `rounds_`, `losses_` (mean held-out loss of what was tried), `note_`."""

    def __init__(self, seconds: float = np.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock

    def _learn(self, x: Any, y: np.ndarray, outputs: int) -> None:
        deadline = Deadline(self.seconds, self.clock)
        views = Views.of(x)
        self.inputs_ = _Inputs(views, y, outputs if self.classes else 0)
        self.note_, self.losses_ = "", {}
        numbers = self.inputs_.numbers(views)
        every = np.arange(len(y))
        learnt = self.inputs_.to_learn(numbers, every)
        if not learnt.shape[1]:
            raise ValueError("trees see nothing of these columns")
        a_round = deadline.timed(lambda: self._estimator(_SETTINGS[0], _PROBED_ROUNDS).fit(learnt, y)) / _PROBED_ROUNDS
        folds = folds_of(y, self.classes)
        tries = len(_SETTINGS) * len(folds) + 1
        rounds = self._affordable(deadline, a_round, tries)
        settings = _SETTINGS
        if rounds < min(_FULL_ROUNDS, _ROUNDS):
            folds, settings = folds[:1], _SETTINGS[:1]
            rounds = self._affordable(deadline, a_round, 2)
            self.note_ = f"at most {rounds} rounds, one choice of settings: there was no time for more"
        if rounds < _MIN_ROUNDS:
            raise TooLong
        best = np.inf
        self.settings_, self.rounds_ = _SETTINGS[0], min(rounds, _FULL_ROUNDS)
        for setting in settings:
            if len(y) < 2 * len(folds):
                break
            loss, used = self._held_out(numbers, y, folds, setting, rounds)
            self.losses_[f"{setting['max_leaf_nodes']} leaves"] = loss
            if loss < best:
                best, self.settings_, self.rounds_ = loss, setting, used
        self.model_ = self._estimator(self.settings_, self.rounds_).fit(learnt, y)
        self.inputs_.keep(every)

    @staticmethod
    def _affordable(deadline: Deadline, a_round: float, tries: int) -> int:
        return int(min(_ROUNDS, deadline.left / max(1.2 * a_round * tries, 1e-9)))

    def _held_out(
        self, numbers: np.ndarray, y: np.ndarray, folds: list[np.ndarray], setting: dict[str, Any], rounds: int
    ) -> tuple[float, int]:
        losses, used = [], []
        for held in folds:
            rest = rest_of(held, len(y))
            stops = not self.classes or np.unique(y[rest], return_counts=True)[1].min() >= 5
            estimator = self._estimator(setting, rounds if stops else min(rounds, _FULL_ROUNDS), stops)
            estimator.fit(self.inputs_.to_learn(numbers, rest), y[rest])
            used.append(estimator.n_iter_)
            losses.append(len(held) * self._loss(estimator, self.inputs_.to_answer(numbers, held, rest), y[held]))
        grown = float(np.mean(used)) * (len(folds) / (len(folds) - 1) if len(folds) > 1 else 1.1)
        return sum(losses) / sum(map(len, folds)), int(np.clip(round(grown), 1, rounds))

    def _estimator(self, setting: dict[str, Any], rounds: int, stops: bool = False) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if self.classes else HistGradientBoostingRegressor
        return kind(max_iter=rounds, early_stopping=stops, n_iter_no_change=_PATIENCE, random_state=0, **setting)

    def _seen(self, x: Any) -> np.ndarray:
        views = Views.of(x)
        return self.inputs_.new(views)


class BoostedClassifier(ViewsClassifier, _Boosting):
    """One class a row."""

    def _probabilities(self, estimator: Any, x: np.ndarray) -> np.ndarray:
        p = np.zeros((len(x), len(self.classes_)))
        p[:, estimator.classes_] = estimator.predict_proba(x)
        return p


class BoostedRegressor(ViewsRegressor, _Boosting):
    """Of one number a row."""


class _Inputs:
    """Rows as trees see them. Means of what is asked are of other rows than the one that is learnt from."""

    def __init__(self, views: Views, y: np.ndarray, classes: int) -> None:
        from sklearn.decomposition import TruncatedSVD

        self.target = np.eye(classes)[y][:, 1 if classes == 2 else 0 :] if classes else y[:, None].astype(np.float64)
        self.components = [
            TruncatedSVD(_COMPONENTS, n_iter=3, random_state=0).fit(block)
            if min(block.shape) > 2 * _COMPONENTS
            else None
            for block in views.wide
        ]
        self.known: list[dict[Any, int] | None] = []
        columns = []
        for values in views.keys.T:
            distinct = {value: i for i, value in enumerate(dict.fromkeys(values.tolist()))}
            self.known.append(distinct if len(distinct) <= max(2, len(values) / 2) else None)
            if self.known[-1] is not None:
                columns.append(_numbered(values, distinct))
        self.values = np.stack(columns, axis=1) if columns else np.zeros((len(y), 0), dtype=np.int64)

    def numbers(self, views: Views) -> np.ndarray:
        """What needs no truth, float64 [n, F]."""
        pairs = zip(views.wide, self.components, strict=True)
        few = [block.toarray() if svd is None else svd.transform(block) for block, svd in pairs]
        return np.hstack([views.trees, *few])

    def to_answer(self, numbers: np.ndarray, rows: np.ndarray, learnt: np.ndarray) -> np.ndarray:
        means = self._means(learnt)
        return np.hstack([numbers[rows], *(m[v] for m, v in zip(means, self.values[rows].T, strict=True))])

    def to_learn(self, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if not self.values.shape[1]:
            return numbers[rows]
        out = np.empty((len(rows), numbers.shape[1] + self.values.shape[1] * self.target.shape[1]))
        for fold in np.array_split(np.random.default_rng(0).permutation(len(rows)), min(_INNER_FOLDS, len(rows))):
            out[fold] = self.to_answer(numbers, rows[fold], np.delete(rows, fold))
        return out

    def keep(self, learnt: np.ndarray) -> None:
        """For new rows: the means of these."""
        self.kept = self._means(learnt)

    def new(self, views: Views) -> np.ndarray:
        columns = [_numbered(v, known) for v, known in zip(views.keys.T, self.known, strict=True) if known is not None]
        return np.hstack([self.numbers(views), *(m[v] for m, v in zip(self.kept, columns, strict=True))])

    def _means(self, learnt: np.ndarray) -> list[np.ndarray]:
        """Of each key's values, drawn towards the mean of all, which stands last: [values + 1, K] each."""
        overall = self.target[learnt].mean(0)
        out = []
        for values, known in zip(self.values.T, (k for k in self.known if k is not None), strict=True):
            size, mine = len(known), values[learnt]
            sums = np.stack([np.bincount(mine, column, size) for column in self.target[learnt].T], axis=1)
            count = np.bincount(mine, minlength=size)[:, None]
            out.append(np.vstack([(sums + _SMOOTHING * overall) / (count + _SMOOTHING), overall]))
        return out


def _numbered(values: np.ndarray, known: dict[Any, int]) -> np.ndarray:
    """The number of each value; what is not known has the last."""
    return np.array([known.get(value, len(known)) for value in values.tolist()], dtype=np.int64)
