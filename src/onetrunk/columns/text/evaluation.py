"""How written texts are judged: right or not, and how many edits away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onetrunk.columns.families.baselines.views import CHARACTERS, KEYS, WORDS, as_keys
from onetrunk.columns.families.tokens.evaluation import TokenEvaluation
from onetrunk.columns.text.encoder import TextEncoder, text_of
from onetrunk.columns.text.perturbations import text_perturbations
from onetrunk.core.answer import Answer
from onetrunk.core.metric import Metric
from onetrunk.core.perturbation import Perturbation, Perturbed
from onetrunk.metrics.text import WRITTEN, character_error_rate, exact_match, word_error_rate


class TextEvaluation(TokenEvaluation[TextEncoder], Perturbed):
    def metrics(self) -> tuple[Metric, ...]:
        return WRITTEN

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Errors of words only where the truths are written in words."""
        values = [str(a.value) for a in answers]
        measured = {
            "exact_match": exact_match(truths, values),
            "character_error_rate": character_error_rate(truths, values),
        }
        if any(" " in str(truth).strip() for truth in truths):
            measured["word_error_rate"] = word_error_rate(truths, values)
        return measured

    def perturbations(self) -> tuple[Perturbation, ...]:
        return text_perturbations()

    def features(self) -> Any:
        """Words and runs of characters."""
        from sklearn.pipeline import make_pipeline, make_union

        from onetrunk.columns.families.baselines.ngram_features import NgramFeatures

        return make_pipeline(_texts(), make_union(*(NgramFeatures(kind) for kind in (WORDS, CHARACTERS))))

    def views(self) -> dict[str, Any]:
        from sklearn.pipeline import make_pipeline

        from onetrunk.columns.families.baselines.ngram_features import NgramFeatures

        return {
            **{kind: make_pipeline(_texts(), NgramFeatures(kind)) for kind in (WORDS, CHARACTERS)},
            KEYS: make_pipeline(_texts(), as_keys()),
        }


def _texts() -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(lambda values: ["" if v is None else text_of(v) for v in values])
