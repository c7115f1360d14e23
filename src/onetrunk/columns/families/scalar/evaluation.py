"""How answers on a line are judged: errors in the column's own units; beside the mean, ridge regression and trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from onetrunk.columns.families.baselines.views import LINEAR, TREES
from onetrunk.columns.families.scalar.encoder import ScalarEncoder
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.errors import BadValueError
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.metric import Metric
from onetrunk.core.perturbation import Draw, Perturbation, Perturbed
from onetrunk.metrics.regression import IN_UNITS, REGRESSION, regression

E = TypeVar("E", bound=ScalarEncoder)


class ScalarEvaluation(Evaluation[E], Perturbed):
    unit: ClassVar[float] = 1.0  # metrics are in this many units of the line

    def metrics(self) -> tuple[Metric, ...]:
        own = self.encoder.unit
        return tuple(replace(metric, unit=own) if metric.name in IN_UNITS else metric for metric in REGRESSION)

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        intervals = None
        if all(a.interval is not None for a in answers):
            intervals = np.array([[self._position(end) for end in a.interval or ()] for a in answers])
        predictions = self.target([a.value for a in answers]) / self.unit
        return regression(self.target(truths) / self.unit, predictions, intervals)

    def _position(self, value: Any) -> float:
        return self.encoder.to_line(value) / self.unit

    # -- baselines ---------------------------------------------------------------------------------------------------
    def features(self) -> Any:
        """[n, k + 1]: the encoder's traits, then whether the value is missing."""
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: np.stack([self._row(value) for value in values]))

    def _row(self, value: Any) -> np.ndarray:
        encoder = self.encoder
        try:
            traits = encoder.traits(encoder.blank() if value is None else encoder.encode(value))
            missing = value is None
        except BadValueError:
            traits, missing = encoder.traits(encoder.blank()), True
        return np.append(traits * (not missing), float(missing))

    def views(self) -> dict[str, Any]:
        """A linear model sees the bin of the value too; trees see that it is missing as such."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        from onetrunk.columns.families.baselines.number_bins import NumberBins

        def with_gaps(rows: np.ndarray) -> np.ndarray:
            return np.where(rows[:, -1:] > 0, np.nan, rows[:, :-1])

        return {
            LINEAR: make_pipeline(self.features(), NumberBins()),
            TREES: make_pipeline(self.features(), FunctionTransformer(with_gaps)),
        }

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyRegressor

        from onetrunk.columns.families.baselines.boosting import BoostedRegressor
        from onetrunk.columns.families.baselines.linear import LinearRegressor

        return {"mean": DummyRegressor(), "ridge": LinearRegressor(), "gradient boosting": BoostedRegressor()}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self.encoder.to_line(value) for value in values], dtype=np.float64)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        return [Answer(self.encoder.from_line(float(position))) for position in estimator.predict(features)]

    # -- values that get worse -----------------------------------------------------------------------------------------
    def perturbations(self) -> tuple[Perturbation, ...]:
        what, unit = "Gaussian noise, of such a standard deviation", "of the column's spread"
        return (Perturbation("inexactness", what, unit, (0.1, 0.3, 1.0), self._inexact),)

    def _inexact(self, value: Any, severity: float, draw: Draw) -> Any:
        try:
            position = self.encoder.to_line(value)
        except BadValueError:  # whoever reads it says so
            return value
        noise = float(rng.normal(np.array([draw.key], dtype=np.uint64))[0])
        return self.encoder.from_line(position + severity * self.encoder.scale * noise)

    # -- a person's view ---------------------------------------------------------------------------------------------
    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """Answers against truths."""
        encoder = self.encoder
        true = [encoder.from_line(encoder.to_line(truth)) for truth in truths]  # one type, also of other spellings
        axes.scatter(true, [a.value for a in answers], s=8, alpha=0.5)
        ends = [min(true), max(true)]
        axes.plot(ends, ends, color="grey", linewidth=1)
        axes.set_xlabel("true")
        axes.set_ylabel("answered")
        return True
