"""How written texts are judged: right or not, and how many edits away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onetrunk.columns.families.tokens.evaluation import TokenEvaluation
from onetrunk.columns.families.tokens.special_tokens import SPECIALS
from onetrunk.columns.text.encoder import TextEncoder, text_of
from onetrunk.core.answer import Answer
from onetrunk.core.metric import Metric
from onetrunk.metrics.text import WRITTEN, character_error_rate, exact_match, word_error_rate

_TOKENS_LOOKED_AT = 5000  # for spaces


class TextEvaluation(TokenEvaluation[TextEncoder]):
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

    def features(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        encoder = self.encoder
        spaced = " " in encoder.decode(list(range(len(SPECIALS), min(encoder.size, _TOKENS_LOOKED_AT))))
        if spaced and encoder.options.unit == "bpe":
            vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        else:  # written without spaces
            vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        texts = FunctionTransformer(lambda values: ["" if v is None else text_of(v) for v in values])
        return make_pipeline(texts, vectors)
