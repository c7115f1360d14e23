"""The baselines of every claim: simple estimators on the same rows and the given columns' features.

They have a time of their own, all together. What there was no time for is said, and the naive one always runs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrunk.columns.families.baselines.model_selection import Deadline, TooLong
from onetrunk.columns.families.baselines.views import Views
from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder, Prompted
from onetrunk.core.errors import BadValueError
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.events import BaselineDone, Listener, ignore

BASELINE_SECONDS = 60.0  # for the baselines of one asked column, their features included

_MOST_DENSE_COLUMNS = 2000
_TRIED_ROWS = 2000  # from here on a tenth of the rows tells how long all take
_TRIED_VALUES = 64  # of a column: how long they take tells how long all take
_BEGUN_SHARE = 0.05  # of the time that must be left for a baseline to be begun


@dataclass
class Baseline:
    """`answers` to the test rows with a usable truth, in order; None when skipped (`note` says why). `cut`: with more
    time it would have tried more."""

    answers: list[Answer] | None = None
    metrics: dict[str, float | None] | None = None
    seconds: float = 0.0
    note: str = ""
    cut: bool = False


def run_baselines(
    given: Mapping[str, Evaluation[Any]],
    asked: Evaluation[Any],
    train: Mapping[str, Sequence[Any]],
    test: Mapping[str, Sequence[Any]],
    asked_train: Sequence[Any],
    asked_test: Sequence[Any],
    *,
    seconds: float = BASELINE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    known: Mapping[str, Baseline] | None = None,
    measure: Callable[[list[Answer]], dict[str, float | None]] | None = None,
    only: Sequence[str] | None = None,
    on_event: Listener = ignore,
    name: str = "",
) -> dict[str, Baseline]:
    """Fits `asked.baselines()` on the training rows with a usable truth and judges them on such test rows.

    A missing value is None. The first of `asked.baselines()` is the naive one; with no usable feature it
    runs alone, and it does not wait for features. The others take `seconds` by the `clock`, all together. `on_event`
    hears of each as it is done, as a baseline of the column `name`. Those `known` are taken as they are. `measure`
    judges answers, instead of by all the truths. `only` names those that are wanted.
    """
    naive = next(iter(asked.baselines()), "")
    estimators = {key: each for key, each in asked.baselines().items() if only is None or key in only}
    rows, test_rows = usable(asked, asked_train), usable(asked, asked_test)
    truths = [asked_test[i] for i in test_rows]
    if not estimators or not rows or not truths:
        return {}
    known = {key: baseline for key, baseline in (known or {}).items() if len(baseline.answers or []) == len(truths)}
    if known.keys() >= estimators.keys():
        return {key: known[key] for key in estimators}
    deadline = Deadline(seconds, clock)
    y = asked.target([asked_train[i] for i in rows])
    done: dict[str, Baseline] = {}

    def keep(key: str, baseline: Baseline) -> None:
        if baseline.answers is not None:
            baseline.metrics = (measure or (lambda answers: asked.measure(answers, truths)))(baseline.answers)
        done[key] = baseline
        metric, value = next(iter((baseline.metrics or {}).items()), ("", None))
        on_event(BaselineDone(name, key, metric, value, baseline.seconds, baseline.note))

    if naive in estimators and naive not in known and not _reads(estimators[naive]):
        nothing = Views.joined([], len(rows)), Views.joined([], len(truths))
        keep(naive, _run(estimators.pop(naive), asked, nothing[0], y, nothing[1], deadline, seconds))
    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
    notes = []
    for column, evaluation in given.items():
        values = [train[column][i] for i in rows], [test[column][i] for i in test_rows]
        blocks = _features(evaluation, *values, deadline, seconds)
        if isinstance(blocks, str):
            notes.append(f"{column} not used: {blocks}")
        elif blocks is not None:
            seen.append(blocks)
    x_train, x_test = (Views.joined([b[side] for b in seen], len(of)) for side, of in ((0, rows), (1, truths)))
    estimators = {key: estimator for key, estimator in estimators.items() if key not in known}
    for waiting, (key, estimator) in zip(range(len(estimators), 0, -1), estimators.items(), strict=True):
        if seen or key == naive:
            baseline = _run(estimator, asked, x_train, y, x_test, deadline, seconds, key == naive, waiting)
            if key != naive:
                baseline.note = "; ".join(filter(None, [*notes, baseline.note]))
                baseline.cut = baseline.cut or bool(notes)
            keep(key, baseline)
        elif notes:
            keep(key, Baseline(note=f"skipped: {'; '.join(notes)}"))
    return {key: known.get(key) or done[key] for key in asked.baselines() if key in known or key in done}


def _reads(estimator: Any) -> bool:
    """Does it look at features? A naive one of scikit-learn's does not."""
    return not type(estimator).__name__.startswith("Dummy")


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


def _features(
    evaluation: Evaluation[Any], train: list[Any], test: list[Any], deadline: Deadline, seconds: float
) -> tuple[dict[str, Any], dict[str, Any]] | str | None:
    """Blocks of training and test values by view; the reason when these give none; None when the type has none."""
    views = evaluation.views()
    if not views or any(transformer is None for transformer in views.values()):
        return None
    blocks: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    if deadline.left <= 0:
        return f"looking at it would take longer than {seconds:.2g} s"
    try:
        if len(train) > 4 * _TRIED_VALUES:
            some = train[:: len(train) // _TRIED_VALUES]
            took = deadline.timed(lambda: [evaluation.views()[name].fit_transform(some) for name in views])
            if took * (len(train) + len(test)) / len(some) > deadline.left:
                return f"looking at it would take longer than {seconds:.2g} s"
        for name, transformer in views.items():
            blocks[0][name], blocks[1][name] = transformer.fit_transform(train), transformer.transform(test)
    except (ValueError, BadValueError) as error:  # such as a vocabulary that is empty after pruning
        return str(error).split("\n")[0]
    return blocks


def _run(
    estimator: Any,
    asked: Evaluation[Any],
    train: Views,
    y: np.ndarray,
    test: Views,
    deadline: Deadline,
    seconds: float,
    needed: bool = True,
    waiting: int = 1,
) -> Baseline:
    """`waiting`: how many baselines share the time that is left."""
    from sklearn.exceptions import ConvergenceWarning

    too_long = Baseline(note=f"skipped: it would take longer than {seconds:.2g} s")
    if not needed and deadline.left <= _BEGUN_SHARE * seconds:
        return too_long
    x_train: Any = train
    x_test: Any = test
    note = ""
    if getattr(estimator, "takes_views", False):
        estimator.set_params(seconds=deadline.left / waiting, clock=deadline.clock)
    else:
        x_train, x_test = (
            view.matrix() if view.linear.shape[1] or view.texts else _blank(view) for view in (train, test)
        )
        x_train, x_test, note = _as_taken(estimator, x_train, x_test)
        if note:
            return Baseline(note=note)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if not needed and _seconds_to_fit(estimator, x_train, y, deadline) > deadline.left:
                return too_long
            estimator.fit(x_train, y)
            answers = asked.answers_from(estimator, x_test)
        except TooLong:
            return too_long
        except ValueError as error:  # such as a single class among the training rows
            return Baseline(note=f"skipped: {str(error).splitlines()[0]}")
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    cut = getattr(estimator, "note_", "")
    note = "; ".join(filter(None, [cut, "" if converged else "stopped before it converged"]))
    return Baseline(answers, None, time.perf_counter() - began, note, bool(cut))


def _blank(views: Views) -> np.ndarray:
    """Something to give to those that look at nothing."""
    return np.zeros((views.count, 1))


def _as_taken(estimator: Any, train: Any, test: Any) -> tuple[Any, Any, str]:
    """Matrices as a plain estimator of scikit-learn's takes them, or why it cannot."""
    from scipy import sparse
    from sklearn.utils import get_tags

    if sparse.issparse(train) and not get_tags(estimator).input_tags.sparse:
        if train.shape[1] > _MOST_DENSE_COLUMNS:
            reason = f"needs a dense table, and {train.shape[1]:,} features are too many for one"
            return train, test, f"skipped: {reason}"
        return train.toarray(), test.toarray(), ""
    return train, test, ""


def _seconds_to_fit(estimator: Any, x: Any, y: np.ndarray, deadline: Deadline) -> float:
    """About how long a plain estimator takes, from a part of the rows; 0 of few rows, and of those that keep to their
    time themselves."""
    from sklearn.base import clone

    n = len(y)
    if getattr(estimator, "takes_views", False) or n < _TRIED_ROWS or not hasattr(estimator, "get_params"):
        return 0.0
    some = np.arange(0, n, 10)
    return deadline.timed(lambda: clone(estimator).fit(x[some], y[some])) * n / len(some)
