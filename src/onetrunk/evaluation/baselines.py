"""The baselines of every claim: simple estimators on the same rows and the given columns' features."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder, Prompted
from onetrunk.core.errors import BadValueError
from onetrunk.core.evaluation import Evaluation

_MOST_DENSE_COLUMNS = 2000


@dataclass
class Baseline:
    """`answers` to the test rows with a usable truth, in order; None when skipped (`note` says why)."""

    answers: list[Answer] | None = None
    metrics: dict[str, float | None] | None = None
    seconds: float = 0.0
    note: str = ""


def run_baselines(
    given: Mapping[str, Evaluation[Any]],
    asked: Evaluation[Any],
    train: Mapping[str, Sequence[Any]],
    test: Mapping[str, Sequence[Any]],
    asked_train: Sequence[Any],
    asked_test: Sequence[Any],
) -> dict[str, Baseline]:
    """Fits `asked.baselines()` on the training rows with a usable truth and judges them on such test rows.

    A missing value is None. The first of `asked.baselines()` is the naive one; with no usable feature it
    runs alone.
    """
    estimators = asked.baselines()
    rows, test_rows = usable(asked, asked_train), usable(asked, asked_test)
    truths = [asked_test[i] for i in test_rows]
    if not estimators or not rows or not truths:
        return {}
    blocks, notes = [], []
    for name, evaluation in given.items():
        block = _features(evaluation, [train[name][i] for i in rows], [test[name][i] for i in test_rows])
        if isinstance(block, str):
            notes.append(f"{name} not used: {block}")
        elif block is not None:
            blocks.append(block)
    featureless = [(np.zeros((len(rows), 1)), np.zeros((len(truths), 1)))]
    x_train, x_test = (_beside([block[side] for block in blocks or featureless]) for side in (0, 1))
    y = asked.target([asked_train[i] for i in rows])
    naive = next(iter(estimators))
    return {
        name: _run(estimator, asked, x_train, y, x_test, truths, "; ".join(notes) if name != naive else "")
        for name, estimator in estimators.items()
        if blocks or name == naive
    }


def before_and_then(encoder: Encoder, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What was seen before, None where answers begin at the beginning, and what came then, None where nothing did."""
    before: list[Any] = [None] * len(values)
    then: list[Any] = [None] * len(values)
    for i, value in enumerate(values):
        if value is not None:
            try:
                before[i], then[i] = encoder.split(value) if isinstance(encoder, Prompted) else (None, value)
            except BadValueError:
                continue
    return before, then


def usable(evaluation: Evaluation[Any], values: Sequence[Any]) -> list[int]:
    """Where a column holds a truth: neither missing nor unreadable. A class unknown to training is one."""
    out = []
    for i, value in enumerate(values):
        if value is not None:
            try:
                evaluation.target([value])
            except BadValueError:
                continue
            out.append(i)
    return out


def _features(evaluation: Evaluation[Any], train: list[Any], test: list[Any]) -> tuple[Any, Any] | str | None:
    """Matrices of training and test values; the reason when these give none; None when the type has none."""
    transformer = evaluation.features()
    if transformer is None:
        return None
    try:
        return transformer.fit_transform(train), transformer.transform(test)
    except (ValueError, BadValueError) as error:  # such as a vocabulary that is empty after pruning
        return str(error).split("\n")[0]


def _beside(blocks: list[Any]) -> Any:
    from scipy import sparse

    if any(sparse.issparse(block) for block in blocks):
        return sparse.hstack(blocks, format="csr")
    return np.hstack(blocks)


def _run(
    estimator: Any, asked: Evaluation[Any], x_train: Any, y: np.ndarray, x_test: Any, truths: list[Any], note: str
) -> Baseline:
    from scipy import sparse
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import get_tags

    if sparse.issparse(x_train) and not get_tags(estimator).input_tags.sparse:
        if x_train.shape[1] > _MOST_DENSE_COLUMNS:
            reason = f"needs a dense table, and {x_train.shape[1]:,} features are too many for one"
            return Baseline(note=f"skipped: {reason}")
        x_train, x_test = x_train.toarray(), x_test.toarray()
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator.fit(x_train, y)
            answers = asked.answers_from(estimator, x_test)
        except ValueError as error:  # such as a single class among the training rows
            return Baseline(note=f"skipped: {str(error).splitlines()[0]}")
    if any(issubclass(w.category, ConvergenceWarning) for w in caught):
        note = "; ".join(filter(None, [note, "stopped before it converged"]))
    seconds = time.perf_counter() - began
    return Baseline(answers, asked.measure(answers, truths), seconds, note)
