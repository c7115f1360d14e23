"""The little of codecs and models that evidence looks at."""

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
from onetrunk.core.errors import BadValueError
from onetrunk.metrics.classification import classification
from onetrunk.metrics.regression import regression

PIXEL = base64.b64encode(b"a picture").decode()


class Colour:
    """A closed set of names."""

    higher_is_better = True
    history = False
    draws = 1
    split = staticmethod(lambda value: (None, value))
    novelty = staticmethod(lambda answers, truths, known: {"known": float(len(known))})

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        p = np.array([[a.probability[name] for name in self.classes] for a in answers])
        return classification(truths, [a.value for a in answers], p, self.classes)

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        return np.array([float(a.value == t) for a, t in zip(answers, truths, strict=True)])

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

    def figure(self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any) -> bool:
        axes.plot([0, 1], [0, 1])
        return True

    def class_names(self) -> list[str]:
        return self.classes

    def fingerprint(self, value: Any) -> str:
        return str(value)

    def show(self, value: Any) -> dict[str, str]:
        return {"text": str(value)}

    def reads_on(self) -> None:
        return None


class Amount:
    """A number; what is no number is a bad value."""

    higher_is_better = False
    history = False
    draws = 1
    split = staticmethod(lambda value: (None, value))
    novelty = staticmethod(lambda answers, truths, known: {})
    per_row = staticmethod(lambda answers, truths: None)
    fingerprint = staticmethod(str)
    class_names = staticmethod(lambda: None)
    figure = staticmethod(lambda answers, truths, axes: False)

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
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

    def show(self, value: Any) -> dict[str, str]:
        return {"text": str(value)}

    def reads_on(self) -> None:
        return None


class Picture:
    """Something seen, of which no baseline makes features."""

    features = staticmethod(lambda: None)
    views = staticmethod(dict)
    show = staticmethod(lambda value: {"png": PIXEL})


class FakeModel:
    """Answers with what `say` makes of each row."""

    def __init__(self, codecs: Mapping[str, Any], say: Any) -> None:
        self.codecs, self.say = codecs, say

    def codec(self, column: str) -> Any:
        return self.codecs[column]

    def answer(self, columns: Mapping[str, Sequence[Any]], ask: str, given: Sequence[str]) -> list[Answer]:
        assert ask not in columns
        return [self.say(*row) for row in zip(*(columns[name] for name in given), strict=True)]
