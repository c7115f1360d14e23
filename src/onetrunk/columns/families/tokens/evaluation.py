"""How written answers are judged: right or not, and how likely the true ones were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from onetrunk.columns.families.tokens.encoder import TokenEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Evaluation, JudgedByLikelihood
from onetrunk.core.metric import Metric
from onetrunk.metrics.text import LIKELIHOOD, likelihood, ngram_nats

E = TypeVar("E", bound=TokenEncoder)


class TokenEvaluation(Evaluation[E], JudgedByLikelihood):
    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        return np.array([str(a.value) == str(t) for a, t in zip(answers, truths, strict=True)], dtype=np.float64)

    def likelihood_metrics(self) -> tuple[Metric, ...]:
        return LIKELIHOOD

    def likelihood(self, nats: np.ndarray, tokens: np.ndarray, truths: Sequence[Any]) -> dict[str, float | None]:
        total, size = float(nats.sum()), sum(len(self.encoder.text_to_write(t).encode()) for t in truths)
        values = likelihood(-total, int(tokens.sum()), size)
        loss = total / float(tokens.sum()) if tokens.sum() else None
        return {"bits_per_byte": values["bits_per_byte"], "perplexity": values["perplexity"], "loss": loss}

    def likelihood_baselines(self, train: Sequence[Any], truths: Sequence[Any]) -> dict[str, np.ndarray]:
        known, texts = ([self.encoder.text_to_write(t) for t in values] for values in (train, truths))
        return {
            "bytes by frequency": ngram_nats(known, texts, 1),
            "5-grams of bytes": ngram_nats(known, texts, 5),
        }

    # -- baselines ---------------------------------------------------------------------------------------------------
    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyClassifier
        from sklearn.neighbors import KNeighborsClassifier

        return {"most frequent": DummyClassifier(strategy="prior"), "nearest neighbour": KNeighborsClassifier(1)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self.encoder.text_to_write(v) for v in values], dtype=object)
