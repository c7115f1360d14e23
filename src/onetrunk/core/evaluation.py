"""The evidence side of a column type: its metrics, its simple baselines, its figures. No torch.

What only some types can do is a small class of its own, asked with `isinstance`: `JudgedByLikelihood`, `Drawn`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder
from onetrunk.core.metric import Metric

E = TypeVar("E", bound=Encoder)


class Evaluation(ABC, Generic[E]):
    """Base of all evaluations, made from a fitted encoder."""

    def __init__(self, encoder: E) -> None:
        self.encoder = encoder

    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """The field's metrics for this column, the main one first."""

    @abstractmethod
    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Metrics' names to values, the main one first; None where undefined. A metric that means nothing for these
        truths is left out. Truths are raw values, none missing."""

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        """float64 [n] whose mean is the main metric, when it is a mean: makes its bootstrap interval cheap."""
        return None

    def rightness(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        """How right each answer is, float64 [n] from 0 to 1, beside which stands how sure it is; None where answers are
        near or far rather than right or wrong."""
        return None

    @property
    def draws(self) -> int:
        """Answers to the same row that are judged together (`Answer.samples`): more than one where they are drawn."""
        return 1

    # -- baselines ---------------------------------------------------------------------------------------------------
    @abstractmethod
    def features(self) -> Any:
        """A scikit-learn transformer from a list of raw values (None is missing) to a matrix, for baselines."""

    def views(self) -> dict[str, Any]:
        """Transformers as `features`, by what sees their matrices: "linear" (numbers and classes as weights can be
        given to them), "words" and "characters" (of which a linear model takes either or both), "trees" (numbers, NaN
        where missing) and "keys" (object [n, k]: values whose means of what is asked are worth to know)."""
        return {"linear": self.features()}

    @abstractmethod
    def baselines(self) -> dict[str, Any]:
        """Name to scikit-learn estimator that predicts this column from features; the naive one first."""

    def target(self, values: Sequence[Any]) -> np.ndarray:
        """Raw values as a scikit-learn target."""
        return np.asarray(values, dtype=object)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        """A fitted baseline's predictions as answers, so that `measure` judges both alike."""
        return [Answer(value) for value in estimator.predict(features)]

    # -- a person's view ---------------------------------------------------------------------------------------------
    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """Draws the usual picture (confusion matrix, predicted against true) on matplotlib axes; false when none.
        `before` is what was seen before the truths, where answers go on from it (`encoder.History`)."""
        return False


class JudgedByLikelihood(ABC):
    """True values asked from nothing are judged by how likely they were: answers could not be right."""

    @abstractmethod
    def likelihood_metrics(self) -> tuple[Metric, ...]:
        """The main one first."""

    @abstractmethod
    def likelihood(self, nats: np.ndarray, tokens: np.ndarray, truths: Sequence[Any]) -> dict[str, float | None]:
        """Values of these metrics, of each row's loss (nats) and number of tokens, float64 [n]."""

    @abstractmethod
    def likelihood_baselines(self, train: Sequence[Any], truths: Sequence[Any]) -> dict[str, np.ndarray]:
        """Name to the nats of each truth, float64 [n], by simple models of the training values."""


class Drawn(ABC):
    """Answers are made, not chosen: they could be copies of training values."""

    @abstractmethod
    def novelty(
        self, answers: Sequence[Answer], truths: Sequence[Any], known: Sequence[Any]
    ) -> dict[str, float | None]:
        """How far answers are from the training values, beside how far true ones are: copies would be nearer."""

    @abstractmethod
    def nearest_known(self, values: Sequence[Any], known: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """How far the nearest of m known values is from each of n values, 0 for equal ones, float64 [n]; and which of
        them it is, int64 [n]."""
