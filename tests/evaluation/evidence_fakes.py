"""The little of encoders, evaluations and models that evidence looks at: here one class is both of a column's sides."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import ClosedSet
from onetrunk.core.errors import BadValueError
from onetrunk.core.evaluation import Drawn
from onetrunk.core.metric import Metric
from onetrunk.metrics.classification import classification
from onetrunk.metrics.regression import regression

PIXEL = base64.b64encode(b"a picture").decode()


class Colour(ClosedSet, Drawn):
    """A closed set of names."""

    draws = 1

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)

    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("accuracy", True),)

    def novelty(self, answers: Any, truths: Any, known: Sequence[Any]) -> dict[str, float | None]:
        return {"known": float(len(known))}

    def nearest_known(self, values: Sequence[Any], known: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([float(value not in known) for value in values]), np.zeros(len(values), dtype=np.int64)

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        p = np.array([[a.probability[name] for name in self.classes] for a in answers])
        return classification(truths, [a.value for a in answers], p, self.classes)

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        return np.array([float(a.value == t) for a, t in zip(answers, truths, strict=True)])

    rightness = per_row

    def features(self) -> Any:
        return FunctionTransformer(
            lambda values: OneHotEncoder(categories=[self.classes], handle_unknown="ignore").fit_transform(
                [[str(v)] for v in values]
            )
        )

    def views(self) -> dict[str, Any]:
        return {"linear": self.features()}

    def baselines(self) -> dict[str, Any]:
        return {
            "majority": DummyClassifier(strategy="prior"),
            "logistic": LogisticRegression(),
            "boosting": HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2),
        }

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([str(v) for v in values])

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        found = estimator.predict_proba(features)
        rows = [
            dict.fromkeys(self.classes, 0.0) | dict(zip(estimator.classes_, map(float, p), strict=True)) for p in found
        ]
        return [Answer(max(row, key=row.get), row) for row in rows]

    def figure(self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Any = None) -> bool:
        axes.plot([0, 1], [0, 1])
        return True

    def class_names(self) -> list[str]:
        return self.classes

    def fingerprint(self, value: Any) -> str:
        return str(value)

    def near_duplicate_key(self, value: Any) -> str | None:
        return None

    def show(self, value: Any, on: Any = None) -> dict[str, str]:
        return {"text": str(value)}


class Amount:
    """A number; what is no number is a bad value."""

    draws = 1
    per_row = rightness = staticmethod(lambda answers, truths: None)
    fingerprint = staticmethod(str)
    figure = staticmethod(lambda answers, truths, axes, before=None: False)

    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("rmse", False),)

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        return regression(self.target(truths), self.target([a.value for a in answers]))

    def features(self) -> Any:
        return FunctionTransformer(lambda values: np.array([[0.0 if v is None else float(v)] for v in values]))

    def views(self) -> dict[str, Any]:
        return {"linear": self.features()}

    def baselines(self) -> dict[str, Any]:
        return {"mean": DummyRegressor(), "ridge": Ridge(alpha=1e-9)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        try:
            return np.array([float(v) for v in values])
        except ValueError:
            raise BadValueError("not a number") from None

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        return [Answer(float(v)) for v in estimator.predict(features)]

    def near_duplicate_key(self, value: Any) -> str | None:
        return None

    def show(self, value: Any, on: Any = None) -> dict[str, str]:
        return {"text": str(value)}


class Picture:
    """Something seen, of which no baseline makes features."""

    features = staticmethod(lambda: None)
    views = staticmethod(dict)
    show = staticmethod(lambda value, on=None: {"png": PIXEL})
    near_duplicate_key = staticmethod(lambda value: None)
    fingerprint = staticmethod(str)


class FakeModel:
    """Answers with what `say` makes of each row."""

    def __init__(self, sides: Mapping[str, Any], say: Any) -> None:
        self.sides, self.say = sides, say

    def encoder(self, column: str) -> Any:
        return self.sides[column]

    def evaluation(self, column: str) -> Any:
        return self.sides[column]

    def answer(
        self, columns: Mapping[str, Sequence[Any]], ask: str, given: Sequence[str], encoded: Any = None
    ) -> list[Answer]:
        assert ask not in columns
        return [self.say(*row) for row in zip(*(columns[name] for name in given), strict=True)]
