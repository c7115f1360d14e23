"""A simple model of the given columns, which says what the audited one cannot: how hard a row is for somebody who never
saw it, and what weights in training would do."""

from __future__ import annotations

from typing import Any

import numpy as np

from onetrunk.columns.families.baselines.views import Views
from onetrunk.core import rng
from onetrunk.core.errors import BadValueError
from onetrunk.evaluation.audit.asked import AskedRows
from onetrunk.evaluation.audit.mitigation import Fit

NAME = "logistic regression on the same columns"
_ITERATIONS = 200
_LEAST = 1e-6  # of a probability


def features(asked: AskedRows) -> Any:
    """What a linear model sees of the given columns, [n, F]; None where they have nothing for one."""
    blocks = []
    for name, values in asked.columns.items():
        if name == asked.ask:
            continue
        views = asked.model.evaluation(name).views()
        if not views or any(transformer is None for transformer in views.values()):
            continue
        try:
            blocks.append({view: transformer.fit_transform(values) for view, transformer in views.items()})
        except (ValueError, BadValueError):  # such as a vocabulary that is empty after pruning
            continue
    if not blocks:
        return None
    x = Views.joined(blocks, len(asked.truths)).matrix()
    return x if x.shape[1] else None


def weighted_fit(asked: AskedRows) -> Fit | None:
    """Logistic regression of the asked classes, with a weight for each row; None where it has nothing to look at."""
    x = features(asked)
    if x is None:
        return None

    def fit(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Any:
        model = _logistic().fit(x[rows], labels, logisticregression__sample_weight=weights)
        return lambda others: model.predict(x[others])

    return fit


def difficulty(asked: AskedRows, seed: int) -> np.ndarray | None:
    """Minus the log of the probability of each truth, float64 [n], said by a simple model that did not learn from the
    row (it learns from the other half); None where there is none."""
    x = features(asked)
    if x is None:
        return None
    true = asked.names_of(asked.truths)
    out = np.zeros(len(true))
    half = rng.permutation(rng.key(seed, "difficulty"), len(true)) % 2
    for side in (0, 1):
        learn, told = np.flatnonzero(half != side), np.flatnonzero(half == side)
        if len(np.unique(true[learn])) < 2:
            return None
        model = _logistic().fit(x[learn], true[learn])
        place = {name: k for k, name in enumerate(model.classes_)}
        p = model.predict_proba(x[told])
        known = np.array([place.get(name, -1) for name in true[told]])
        out[told] = -np.log(np.maximum(np.where(known < 0, 0.0, p[np.arange(len(told)), known]), _LEAST))
    return out


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    return make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=_ITERATIONS, tol=1e-3))
