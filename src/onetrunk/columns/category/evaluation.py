"""How answers of a category are judged: accuracy and log loss, levels also by their distance; beside the majority,
logistic regression and trees. A true value that is a distribution is judged as one."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from onetrunk.columns.category.encoder import CategoryEncoder, members
from onetrunk.columns.category.shares import shares_of
from onetrunk.columns.families.baselines.views import CHARACTERS, KEYS, LINEAR, WORDS, as_keys
from onetrunk.columns.families.names import name_of
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.metric import Metric
from onetrunk.core.perturbation import Draw, Perturbation, Perturbed
from onetrunk.metrics import classification, ordinal

_MAX_CLASSES_DRAWN = 40
_MANY_NAMES = 100  # of which some have parts in common that tell something


class CategoryEvaluation(Evaluation[CategoryEncoder], Perturbed):
    def metrics(self) -> tuple[Metric, ...]:
        if self.encoder.ordered:
            return (*ordinal.ORDINAL, *classification.SINGLE_LABEL)
        return classification.MULTILABEL if self.encoder.multi else classification.SINGLE_LABEL

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        classes = self.encoder.classes
        of_all = itemgetter(*classes)  # at once: there may be thousands
        p = np.array([of_all(a.of_classes) for a in answers], dtype=np.float64).reshape(len(answers), len(classes))
        if self.encoder.multi:
            return classification.multilabel([[self.encoder.name(x) for x in members(t)] for t in truths], p, classes)
        true, answered = [self.encoder.name(t) for t in truths], [name_of(a.value) for a in answers]
        measured = classification.classification(true, answered, p, classes)
        if any(isinstance(truth, dict) for truth in truths):
            measured |= classification.of_distributions(self._shares(truths), answered, p, classes)
        elif (right := self.rightness(answers, truths)) is not None and len(right):
            measured["ece"] = classification.ece(self._sure(answers), right)
        measured |= self._sets(answers, truths)
        return ordinal.ordinal(true, answered, classes) | measured if self.encoder.ordered else measured

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        if self.encoder.multi:
            return None
        true, answered = [self.encoder.name(t) for t in truths], [name_of(a.value) for a in answers]
        if self.encoder.ordered:
            return ordinal.distances(true, answered, self.encoder.classes)
        return np.array([a == t for a, t in zip(answered, true, strict=True)], dtype=np.float64)

    def rightness(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        """Of a distribution, the share of what was answered."""
        if self.encoder.multi:
            return None
        return np.array([self._share(t, name_of(a.value)) for a, t in zip(answers, truths, strict=True)])

    def _share(self, truth: Any, name: str) -> float:
        if not isinstance(truth, dict):
            return float(self.encoder.name(truth) == name)
        return sum(share for key, share in shares_of(truth).items() if self.encoder.name(key) == name)

    def _shares(self, truths: Sequence[Any]) -> np.ndarray:
        """[n, classes]"""
        return np.stack([self.encoder.shares(truth) for truth in truths]).astype(np.float64)

    def _sure(self, answers: Sequence[Answer]) -> np.ndarray:
        return np.array([a.certainty for a in answers], dtype=np.float64)

    def _sets(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """How often a conformal set holds what is true, and how many classes it has; nothing where there are none."""
        if not len(answers) or any(a.conformal_set is None for a in answers):
            return {}
        sets = [{name_of(x) for x in a.conformal_set or ()} for a in answers]
        held = [sum(self._share(t, name) for name in chosen) for chosen, t in zip(sets, truths, strict=True)]
        return {"coverage": float(np.mean(held)), "set_size": float(np.mean([len(chosen) for chosen in sets]))}

    # -- baselines ---------------------------------------------------------------------------------------------------
    def features(self) -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer, OneHotEncoder

        if self.encoder.multi:
            binarizer = MultiLabelBinarizer(classes=self.encoder.classes, sparse_output=True)
            return FunctionTransformer(
                lambda vs: binarizer.fit_transform(
                    [() if v is None else map(self.encoder.name, members(v)) for v in vs]
                )
            )
        return make_pipeline(self._names(), as_keys(), OneHotEncoder(handle_unknown="ignore"))

    def _names(self) -> Any:
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: ["" if v is None else self.encoder.name(v) for v in values])

    def views(self) -> dict[str, Any]:
        from sklearn.pipeline import make_pipeline

        if self.encoder.multi:
            return {LINEAR: self.features()}
        views = {LINEAR: self.features(), KEYS: make_pipeline(self._names(), as_keys())}
        if len(self.encoder.classes) > _MANY_NAMES:
            from onetrunk.columns.families.baselines.ngram_features import NgramFeatures

            views |= {kind: make_pipeline(self._names(), NgramFeatures(kind)) for kind in (WORDS, CHARACTERS)}
        return views

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyClassifier

        from onetrunk.columns.families.baselines.boosting import BoostedClassifier
        from onetrunk.columns.families.baselines.linear import LinearClassifier

        if self.encoder.multi:
            return {"majority": DummyClassifier(), "logistic regression": LinearClassifier()}
        return {
            "majority": DummyClassifier(strategy="prior"),
            "logistic regression": LinearClassifier(),
            "gradient boosting": BoostedClassifier(),
        }

    def target(self, values: Sequence[Any]) -> np.ndarray:
        if self.encoder.multi:
            return np.stack([self.encoder.encode(v)["hot"] for v in values])
        return np.array([self.encoder.name(v) for v in values])

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        encoder, p = self.encoder, estimator.predict_proba(features)
        if isinstance(p, list):  # a multi-output DummyClassifier gives one array a label
            p = np.stack([q[:, -1] for q in p], axis=1)
        if not encoder.multi:
            place = {name: k for k, name in enumerate(encoder.classes)}
            known = p
            p = np.zeros((len(p), len(place)))
            p[:, [place[str(name)] for name in estimator.classes_]] = known
        each = [dict(zip(encoder.classes, row, strict=True)) for row in p.tolist()]
        if encoder.multi:
            chosen = [[encoder.value(int(k)) for k in np.flatnonzero(row >= 0.5)] for row in p]
            return [Answer(value, probability) for value, probability in zip(chosen, each, strict=True)]
        return [Answer(encoder.value(k), probability, sure=probability[encoder.classes[k]])
                for k, probability in zip(self._likeliest(p), each, strict=True)]  # fmt: skip

    def _likeliest(self, p: np.ndarray) -> list[int]:
        """The likeliest class of each row of p [n, classes]; of levels the one in the middle, as the model answers."""
        if not self.encoder.ordered:
            return [int(k) for k in p.argmax(1)]
        reached = p.cumsum(1)
        return [int(k) for k in (reached[:, :-1] < 0.5 * reached[:, -1:]).sum(1)]

    # -- values that get worse -----------------------------------------------------------------------------------------
    def perturbations(self) -> tuple[Perturbation, ...]:
        what = "another class of the column"
        return (Perturbation("wrong classes", what, "of the values", (0.05, 0.1, 0.3), _other),)

    # -- a person's view ---------------------------------------------------------------------------------------------
    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """The confusion matrix."""
        if self.encoder.multi or len(self.encoder.classes) > _MAX_CLASSES_DRAWN:
            return False
        from matplotlib import rcParams
        from sklearn.metrics import ConfusionMatrixDisplay

        ConfusionMatrixDisplay.from_predictions(
            [self.encoder.name(t) for t in truths],
            [name_of(a.value) for a in answers],
            labels=self.encoder.classes,
            normalize=None,
            colorbar=False,
            cmap=rcParams["image.cmap"],  # the report's, light or dark
            ax=axes,
            xticks_rotation=90 if max(map(len, self.encoder.classes)) > 3 else 0,
        )
        axes.set_xlabel("answered")
        axes.set_ylabel("true")
        return True


def _other(value: Any, severity: float, draw: Draw) -> Any:
    """A class of another row, in this share of the values."""
    others = [other for other in draw.others if other != value]
    u = rng.uniform(np.array([draw.key], dtype=np.uint64), 2)[0]
    return others[int(u[1] * len(others))] if others and u[0] < severity else value
