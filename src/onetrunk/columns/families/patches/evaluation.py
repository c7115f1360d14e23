"""How drawn values are judged: by how well two draws together cover what is true; beside the mean of the training
values and ridge regression.

A draw is one of many that would be right, so its squared error says little: the mean of all pictures, which is none,
would win. The energy score (Gneiting and Raftery 2007) is least in the mean for who draws as the data do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from onetrunk.columns.families.patches.encoder import PatchEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.errors import BadValueError
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.metric import Metric
from onetrunk.metrics.energy import ENERGY, energy_scores

E = TypeVar("E", bound=PatchEncoder)


class PatchEvaluation(Evaluation[E]):
    mean_name: ClassVar[str]  # what the mean of all training values is called

    def metrics(self) -> tuple[Metric, ...]:
        return (ENERGY,)

    @property
    def draws(self) -> int:
        return 2

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        return {ENERGY.name: float(self.per_row(answers, truths).mean())}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        """Distances are root mean squared differences of pixels, 0 to 1."""
        return energy_scores(answers, truths, self.target)

    def features(self) -> Any:
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: np.stack([self.encoder.sketch(self._readable(v)) for v in values]))

    def _readable(self, value: Any) -> np.ndarray:
        """Pixels; black where there is no value, or none that can be read."""
        try:
            arrays = self.encoder.blank() if value is None else self.encoder.encode(value)
        except BadValueError:
            arrays = self.encoder.blank()
        return arrays["pixels"]

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyRegressor
        from sklearn.linear_model import Ridge

        return {self.mean_name: DummyRegressor(), "ridge": Ridge()}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.stack([self.encoder.encode(v)["pixels"].reshape(-1) for v in values]) / 255.0

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        flat = np.clip(estimator.predict(features), 0, 1) * 255
        shape = self.encoder.blank()["pixels"].shape
        return [Answer(self.encoder.value(x)) for x in flat.round().astype(np.uint8).reshape(-1, *shape)]
