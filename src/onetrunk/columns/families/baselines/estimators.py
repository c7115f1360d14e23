"""What the simple models share: labels as numbers, probabilities as answers, the loss by which settings are chosen."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from onetrunk.columns.families.baselines.model_selection import as_numbers, log_loss


class ViewsEstimator(BaseEstimator):
    """Learns from `views.Views`. After `fit`: `model_`."""

    takes_views: ClassVar[bool] = True
    classes: ClassVar[bool]
    model_: Any

    @abstractmethod
    def _learn(self, x: Any, y: np.ndarray, outputs: int) -> None:
        """Chooses the settings and fits `model_`."""

    @abstractmethod
    def _seen(self, x: Any) -> Any:
        """What `model_` sees of the views of new rows."""

    @abstractmethod
    def _loss(self, model: Any, x: Any, y: np.ndarray) -> float:
        """The mean loss of a fitted model on held-out rows."""


class ViewsClassifier(ClassifierMixin, ViewsEstimator):
    classes = True
    classes_: Any

    @abstractmethod
    def _probabilities(self, model: Any, x: Any) -> np.ndarray:
        """[n, K]"""

    def fit(self, x: Any, y: np.ndarray) -> Self:
        self.classes_, number = as_numbers(y)
        if len(self.classes_) < 2:
            raise ValueError("training rows of at least two classes are needed, found one")
        self._learn(x, number, len(self.classes_))
        return self

    def predict_proba(self, x: Any) -> np.ndarray:
        """[n, K]"""
        return self._probabilities(self.model_, self._seen(x))

    def predict(self, x: Any) -> np.ndarray:
        return self.classes_[self.predict_proba(x).argmax(1)]

    def _loss(self, model: Any, x: Any, y: np.ndarray) -> float:
        return log_loss(self._probabilities(model, x), y)


class ViewsRegressor(RegressorMixin, ViewsEstimator):
    """Of one number a row."""

    classes = False

    def fit(self, x: Any, y: np.ndarray) -> Self:
        self._learn(x, np.asarray(y, dtype=np.float64), 1)
        return self

    def predict(self, x: Any) -> np.ndarray:
        return np.asarray(self.model_.predict(self._seen(x)))

    def _loss(self, model: Any, x: Any, y: np.ndarray) -> float:
        return float(((model.predict(x) - y) ** 2).mean())
