"""How moments are judged: in days, the mean absolute error first, for a moment's square means little to a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.date.encoder import DAY, DateEncoder
from onetrunk.columns.families.scalar.evaluation import ScalarEvaluation
from onetrunk.core.answer import Answer
from onetrunk.core.metric import Metric
from onetrunk.metrics.regression import REGRESSION

_IN_DAYS = {"mae": "mae_days", "rmse": "rmse_days"}


class DateEvaluation(ScalarEvaluation[DateEncoder]):
    unit = DAY

    def metrics(self) -> tuple[Metric, ...]:
        first = tuple(Metric(name, False, "days") for name in _IN_DAYS.values())
        return first + tuple(metric for metric in REGRESSION if metric.name not in _IN_DAYS)

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        values = super().measure(answers, truths)
        return {days: values.pop(name) for name, days in _IN_DAYS.items()} | values

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        return np.abs(self.target([a.value for a in answers]) - self.target(truths)) / self.unit
