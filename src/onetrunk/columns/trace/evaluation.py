"""How answers at every step are judged: all steps of all rows as one classification; beside usual shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.history.encoder import FIRST
from onetrunk.columns.families.history.evaluation import HistoryEvaluation
from onetrunk.columns.trace.answers import Shares, Traced
from onetrunk.columns.trace.encoder import TraceEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.metric import Metric, metric_named
from onetrunk.metrics.classification import SINGLE_LABEL, classification

_MAIN = metric_named("auc", SINGLE_LABEL)
METRICS = (_MAIN, *(metric for metric in SINGLE_LABEL if metric != _MAIN))


class TraceEvaluation(HistoryEvaluation[TraceEncoder]):
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Over all steps of all rows whose truth is known, those too far back for an answer left out."""
        classes = self.encoder.classes[self.encoder.asked]
        names, p = [], [np.zeros((0, len(classes)))]
        for answer, truth in zip(answers, truths, strict=True):
            probabilities = self.probabilities(answer, truth)
            then = self.encoder.asked_values(truth)[-len(probabilities) :]
            known = [i for i, v in enumerate(then) if v is not None]
            names += [self.encoder.finder(self.encoder.asked).name(then[i]) for i in known]
            p.append(probabilities[known])
        p_NC = np.concatenate(p)
        measured = classification(names, [classes[i] for i in p_NC.argmax(1)], p_NC, classes)
        return {_MAIN.name: measured.pop(_MAIN.name), **measured}

    def probabilities(self, answer: Answer, truth: Any) -> np.ndarray:
        """Of each class at each step [t, C]."""
        encoder = self.encoder
        if isinstance(answer, Traced):
            return answer.p
        if isinstance(answer, Shares):
            rows = encoder.encode(truth)[answer.field or encoder.asked]
            return answer.by_class[np.maximum(rows - FIRST + 1, 0) if answer.field else np.zeros_like(rows)]
        find = encoder.finder(encoder.asked)
        own = [max(0, find(v)) for v in encoder.asked_values(answer.value)]
        return np.eye(len(encoder.counts))[own]

    # -- baselines ---------------------------------------------------------------------------------------------------
    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns.trace.baselines import StepShares

        asked, count = self.encoder.asked, len(self.encoder.counts)
        fields = [name for name in self.encoder.known() if name in self.encoder.classes]
        baselines = {f"share by {name}": StepShares(asked, count, FIRST, name) for name in fields}
        return {"share": StepShares(asked, count, FIRST), **baselines}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        """Encoded histories, object [n]."""
        out = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):
            out[i] = self.encoder.encode_judged(value)
        return out

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        shares = estimator.by_class_
        return [Shares(None, field=estimator.field, by_class=shares) for _ in range(features.shape[0])]
