"""Logistic and ridge regression that choose words or characters or both, and their penalty, by cross-validation."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from scipy import sparse

from onetrunk.columns.families.baselines.estimators import ViewsClassifier, ViewsEstimator, ViewsRegressor
from onetrunk.columns.families.baselines.model_selection import (
    Deadline,
    TooLong,
    climb,
    folds_of,
    rest_of,
    sample_of,
)
from onetrunk.columns.families.baselines.views import Views

PENALTIES = tuple(10.0 ** (e / 2) for e in range(8, -8, -1))  # from the strongest, 10,000, down to .0003
_FIRST = 9  # .3; and where texts are seen, whose rows are of length 1,
_FIRST_OF_TEXTS = 11  # .03
_PROBED_ROWS = 2000  # from here on a small part tells how long all would take
_PROBED_SHARE = 0.1
_MARGIN = 1.3
_TRIES = 5  # of penalties, as a rule
_CLOSE = 1.1  # times the least loss by the usual penalty: what has more is not worth a penalty of its own
_MAX_WEIGHTS = 100_000_000


class _Linear(ViewsEstimator):
    """`penalty`: None chooses it. After `fit`: `penalty_`, `texts_` (the views of texts that it sees), `losses_` (mean
    held-out loss of what was tried) and `note_` (what was left undone for lack of time)."""

    mean_: np.ndarray
    scale_: np.ndarray

    def __init__(
        self, penalty: float | None = None, seconds: float = np.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.penalty = penalty
        self.seconds = seconds
        self.clock = clock

    @abstractmethod
    def _fit(self, x: Any, y: np.ndarray, penalty: float) -> Any:
        """A fitted model."""

    def _learn(self, x: Any, y: np.ndarray, outputs: int) -> None:
        deadline = Deadline(self.seconds, self.clock)
        views = Views.of(x)
        self.losses_: dict[str, float] = {}
        self.note_ = ""
        choices = _choices(views)
        self.texts_ = choices[-1]
        whole = views.matrix(self.texts_)
        if not whole.shape[1]:
            raise ValueError("the given columns hold nothing that stands in two rows, so there are no features")
        if whole.shape[1] * outputs > _MAX_WEIGHTS:
            raise ValueError(f"{outputs:,} classes by {whole.shape[1]:,} features are too many weights")
        once = self._seconds_of_one(whole, y, deadline)
        if once * _MARGIN > deadline.left:
            raise TooLong
        folds = folds_of(y, self.classes)
        wanted = (_TRIES + len(choices)) * len(folds) + 1
        folds = folds if wanted * once < deadline.left else folds[:1]

        def held_out_loss(texts: tuple[str, ...], penalty: float) -> float | None:
            nonlocal once
            if len(y) < 2 * max(2, len(folds)) or (len(folds) + _MARGIN) * once > deadline.left:
                return None
            matrix, losses = self._scaled(views.matrix(texts)), []
            for held in folds:
                rest = rest_of(held, len(y))
                began = self.clock()
                model = self._fit(matrix[rest], y[rest], penalty)
                took = self.clock() - began
                once = max(once, took) if texts == choices[-1] else once
                losses.append(len(held) * self._loss(model, matrix[held], y[held]))
            loss = sum(losses) / sum(len(held) for held in folds)
            self.losses_[f"{' and '.join(texts)} {penalty:.4g}".strip()] = loss
            return loss

        self._choose(choices, held_out_loss)
        final = self._scaled(views.matrix(self.texts_), learn=True)
        self.model_ = self._fit(final, y, self.penalty_)

    def _choose(self, choices: list[tuple[str, ...]], loss: Callable[[tuple[str, ...], float], float | None]) -> None:
        """By the usual penalty first which texts are worth to be seen; of those the best with a penalty of its own."""
        self._first = _FIRST_OF_TEXTS if choices[-1] else _FIRST
        self.penalty_ = usual = PENALTIES[self._first] if self.penalty is None else self.penalty
        known: dict[tuple[str, ...], float] = {}
        for texts in reversed(choices):  # all together first
            value = loss(texts, usual) if len(choices) > 1 or self.penalty is None else None
            if value is not None:
                known[texts] = value
        if not known:
            if self.penalty is None:
                self.note_ = "its penalty is the usual one: there was no time, or there were no rows, to choose it"
            return
        best = min(known.values())
        self.texts_ = min(known, key=lambda texts: known[texts])
        if self.penalty is not None:
            return
        for texts in sorted(known, key=lambda texts: known[texts]):
            if known[texts] <= best * _CLOSE:
                best = self._climb(texts, known[texts], best, loss)

    def _climb(
        self,
        texts: tuple[str, ...],
        at_first: float,
        best: float,
        loss: Callable[[tuple[str, ...], float], float | None],
    ) -> float:
        """Keeps these texts with their best penalty where that is better than `best`; the least loss then."""
        first = self._first
        index, tried = climb(lambda i: at_first if i == first else loss(texts, PENALTIES[i]), len(PENALTIES), first)
        if tried[index] <= best:
            self.texts_, self.penalty_ = texts, PENALTIES[index]
        return min(best, tried[index])

    def _seconds_of_one(self, x: Any, y: np.ndarray, deadline: Deadline) -> float:
        """About how long learning from all rows takes; nothing is tried where there are few."""
        if len(y) < _PROBED_ROWS or not np.isfinite(self.seconds):
            return 0.0
        rows = sample_of(y, _PROBED_SHARE, self.classes)
        took = deadline.timed(lambda: self._fit(x[rows], y[rows], PENALTIES[_FIRST]))
        return took * len(y) / len(rows)

    def _scaled(self, x: Any, learn: bool = False) -> Any:
        """Dense features around 0, in units of their spread; sparse ones as they are, for theirs are alike."""
        if sparse.issparse(x):
            return x
        x = np.nan_to_num(x)
        if learn or not hasattr(self, "scale_") or len(self.scale_) != x.shape[1]:
            spread = x.std(0)
            self.mean_, self.scale_ = x.mean(0), np.where(spread > 1e-9, spread, 1.0)
        return (x - self.mean_) / self.scale_

    def _seen(self, x: Any) -> Any:
        return self._scaled(Views.of(x).matrix(self.texts_))


def fit_logistic(x: Any, y: np.ndarray, penalty: float, weight: np.ndarray | None = None) -> Any:
    """A logistic regression of scikit-learn. By Newton steps: the gradients of many rare features are so small that
    L-BFGS ends long before it is there (of 4,000 texts with a held-out loss .005 higher, in twice the time)."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the many small products wait for each other's threads longer than they take
        return LogisticRegression(C=1 / penalty, solver="newton-cg", max_iter=100, tol=1e-3).fit(x, y, weight)


class LinearClassifier(ViewsClassifier, _Linear):
    """Logistic regression; with several labels a row (y [n, K] of 0 and 1) one for each."""

    def fit(self, x: Any, y: np.ndarray) -> Self:
        y = np.asarray(y)
        if y.ndim != 2:
            return super().fit(x, y)
        self.classes_ = np.arange(y.shape[1])
        self._learn(x, (y > 0).astype(np.int64), y.shape[1])
        return self

    def _fit(self, x: Any, y: np.ndarray, penalty: float) -> Any:
        def one(hot: np.ndarray) -> Any:
            if len(np.unique(hot)) < 2:
                return float(hot[0]) if len(hot) else 0.0
            return fit_logistic(x, hot, penalty)

        return [one(hot) for hot in y.T] if y.ndim == 2 else one(y)

    def _probabilities(self, model: Any, x: Any) -> np.ndarray:
        if isinstance(model, list):
            each = [np.full(x.shape[0], m) if isinstance(m, float) else m.predict_proba(x)[:, 1] for m in model]
            return np.stack(each, axis=1)
        p = np.zeros((x.shape[0], len(self.classes_)))
        p[:, [int(model)] if isinstance(model, float) else model.classes_] = (
            1.0 if isinstance(model, float) else model.predict_proba(x)
        )
        return p


class LinearRegressor(ViewsRegressor, _Linear):
    """Ridge regression of one number a row."""

    def _fit(self, x: Any, y: np.ndarray, penalty: float) -> Any:
        from sklearn.linear_model import Ridge

        solver = {"solver": "lsqr", "tol": 1e-4} if sparse.issparse(x) else {}
        return Ridge(penalty, **solver).fit(x, y)


def _choices(views: Views) -> list[tuple[str, ...]]:
    """Which views of texts a linear model may see; the last holds all."""
    names: Sequence[str] = [name for name, block in views.texts.items() if block.shape[1]]
    return [*((name,) for name in names), tuple(names)] if len(names) > 1 else [tuple(names)]
