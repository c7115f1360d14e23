"""The main metric of answers to some rows, with its interval: the same for a model, a baseline, and rows that were
changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Evaluation
from onetrunk.evaluation import intervals
from onetrunk.evaluation.intervals import Interval

METRIC_RESAMPLES = 200  # of metrics that are no mean over rows: each resample computes them anew
_ROW_RESAMPLES = 1000


class Judge:
    """The main metric of any answers to these rows: its interval, and its resampled values, alike for model
    and baselines.

    Where the type has a number a row whose mean is the metric, the bootstrap is over these numbers.
    """

    def __init__(
        self,
        evaluation: Evaluation[Any],
        answers: Sequence[Answer],
        truths: Sequence[Any],
        metrics: Mapping[str, float | None],
        seed: int,
    ) -> None:
        self.evaluation, self.truths, self.seed = evaluation, truths, seed
        main = evaluation.metrics()[0]
        self.higher_is_better, self.unit = main.higher_is_better, main.unit
        self.metric, value = next(iter(metrics.items()))
        each = evaluation.per_row(answers, truths)
        self.by_row = each is not None and value is not None and bool(np.isclose(each.mean(), value))
        self.each = each if self.by_row else None  # of the model

    def __call__(
        self, answers: Sequence[Answer], metrics: Mapping[str, float | None]
    ) -> tuple[Interval | None, np.ndarray]:
        value = metrics[self.metric]
        if not self.by_row:
            draws = intervals.metric_draws(
                lambda index: self.at(answers, index), len(answers), METRIC_RESAMPLES, self.seed
            )
            return intervals.interval(value, draws), draws
        each = self.evaluation.per_row(answers, self.truths)
        assert each is not None, "a type has a number for each row, or for none"
        draws = intervals.row_draws(each, np.mean, _ROW_RESAMPLES, self.seed)
        if np.isin(each, (0.0, 1.0)).all():
            return intervals.wilson(float(each.sum()), len(each)), draws
        return intervals.interval(value, draws), draws

    def at(self, answers: Sequence[Answer], index: np.ndarray) -> float | None:
        """The main metric of some rows."""
        return self.evaluation.measure([answers[i] for i in index], [self.truths[i] for i in index])[self.metric]
