"""How forecasts are judged: their squared error first; beside the last value, the last season and a linear map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.series.channels import read
from onetrunk.columns.series.display import plot
from onetrunk.columns.series.encoder import QUANTILES, SeriesEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.metric import Metric
from onetrunk.metrics import forecast


class SeriesEvaluation(Evaluation[SeriesEncoder]):
    def metrics(self) -> tuple[Metric, ...]:
        shorter = tuple(Metric(_of_the_first(points), False) for points in self.encoder.options.horizons)
        return forecast.FORECAST + shorter

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        options, channels = self.encoder.options, self.encoder.channels
        true, answered = self._judged(truths), self._judged([a.value for a in answers])
        squared, absolute = forecast.squared(true, answered), forecast.absolute(true, answered)
        values = {"mse": squared.mean(), "mae": absolute.mean()}
        unit = 1.0 if options.scaled else np.array(channels.scale)
        values["mase"] = forecast.absolute(true / unit, answered / unit).mean() / channels.naive
        quantiles = [a.quantiles for a in answers if a.quantiles is not None]
        levels = {0.5: answered}
        if len(quantiles) == len(answers):
            levels = {level: self._judged([q[level] for q in quantiles]) for level in QUANTILES}
            values["coverage"] = forecast.coverage(true, levels[QUANTILES[0]], levels[QUANTILES[-1]])
        values["crps"] = forecast.crps(true, levels).mean()
        for points in options.horizons:
            values[_of_the_first(points)] = forecast.squared(true[:, :points], answered[:, :points]).mean()
        return {name: float(value) for name, value in values.items()}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        return forecast.squared(self._judged(truths), self._judged([a.value for a in answers]))

    def _judged(self, values: Sequence[Any]) -> np.ndarray:
        """[n, H, C] in the unit of the metrics."""
        encoder = self.encoder
        scaled = encoder.channels.first(values, encoder.options.horizon)
        return scaled if encoder.options.scaled else encoder.channels.own(scaled)

    # -- baselines ---------------------------------------------------------------------------------------------------
    def features(self) -> Any:
        """The last points of each channel, [n, C * W], oldest first; a missing one is the one before it."""
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: self.encoder.channels.last(values, self._window))

    @property
    def _window(self) -> int:
        """Points that simple forecasts see: as many as ours, and a season."""
        return max(self.encoder.length, self.encoder.channels.period)

    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns.series.baselines import Linear, SeasonalNaive

        encoder, period = self.encoder, self.encoder.channels.period
        shape = (len(encoder.channels), self._window, encoder.options.horizon)
        seasonal = {"seasonal naive": SeasonalNaive(*shape, period)} if period > 1 else {}
        return seasonal | {"last value": SeasonalNaive(*shape, 1), "linear": Linear(*shape, period)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        """[n, H * C] in own units, NaN where a point is missing."""
        encoder = self.encoder
        return encoder.channels.own(encoder.channels.first(values, encoder.options.horizon)).reshape(len(values), -1)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        encoder = self.encoder
        forecasts = estimator.predict(features).reshape(-1, encoder.options.horizon, len(encoder.channels))
        return [Answer(encoder.channels.written(x)) for x in forecasts]

    # -- a person's view ---------------------------------------------------------------------------------------------
    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """One row's history, what came and what was answered, with its 90 % interval; of its first channel."""
        channels, H = self.encoder.channels, self.encoder.options.horizon
        i = len(answers) // 2
        past = None if before is None else read(before[i])[1][-max(2 * H, 4 * channels.period) :, 0]
        lines = [truths[i], answers[i].value, *(answers[i].interval or ())]
        plot(axes, past, *channels.own(channels.first(lines, H))[..., 0])
        return True


def _of_the_first(points: int) -> str:
    return f"mse_of_the_first_{points}"
