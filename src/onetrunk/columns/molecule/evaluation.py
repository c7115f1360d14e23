"""How molecules are judged: as chemistry, where RDKit is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.tokens.evaluation import TokenEvaluation
from onetrunk.columns.molecule import chemistry
from onetrunk.columns.molecule.encoder import TOKEN, MoleculeEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Drawn
from onetrunk.core.metric import Metric

METRICS = (
    Metric("exact_match", True),
    Metric("similarity", True),
    Metric("validity", True),
    Metric("uniqueness", True),
)


class MoleculeEvaluation(TokenEvaluation[MoleculeEncoder], Drawn):
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Validity: the share of answers that are molecules. Uniqueness: of these, the share that differ."""
        canonical = [chemistry.canonical(str(a.value)) for a in answers]
        valid = [smiles for smiles in canonical if smiles]
        exact = self.per_row(answers, truths)
        return {
            "exact_match": float(exact.mean()) if len(exact) else None,
            "similarity": _mean([chemistry.similarity(a, str(t)) for a, t in zip(canonical, truths, strict=True)]),
            "validity": _mean([bool(smiles) for smiles in canonical]) if chemistry.available() else None,
            "uniqueness": len(set(valid)) / len(valid) if valid else None,
        }

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        fingerprint, pairs = self.encoder.fingerprint, zip(answers, truths, strict=True)
        return np.array([fingerprint(a.value) == fingerprint(t) for a, t in pairs], dtype=np.float64)

    def novelty(
        self, answers: Sequence[Answer], truths: Sequence[Any], known: Sequence[Any]
    ) -> dict[str, float | None]:
        """The share of different valid answers that no training row holds; and of the true ones."""
        seen = {self.encoder.fingerprint(v) for v in known}
        valid = {smiles for a in answers if (smiles := chemistry.canonical(str(a.value)))}
        true = {self.encoder.fingerprint(t) for t in truths}
        return {f"novelty{of}": _mean([s not in seen for s in each]) for of, each in (("", valid), ("_of_true", true))}

    def nearest_known(self, values: Sequence[Any], known: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """1 less Tanimoto's similarity of fingerprints; 1 for what is no molecule. Without RDKit, 0 for equal ones and
        1 for others."""
        if chemistry.available():
            return chemistry.nearest([str(v) for v in values], [str(v) for v in known])
        place = {self.encoder.fingerprint(v): i for i, v in reversed(list(enumerate(known)))}
        index = np.array([place.get(self.encoder.fingerprint(v), -1) for v in values], dtype=np.int64)
        return (index < 0).astype(np.float64), np.maximum(index, 0)

    # -- baselines ---------------------------------------------------------------------------------------------------
    def features(self) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        if chemistry.available():
            return FunctionTransformer(chemistry.fingerprints)
        spelt = FunctionTransformer(lambda values: ["" if v is None else str(v) for v in values])
        grams = CountVectorizer(token_pattern=TOKEN.pattern, lowercase=False, ngram_range=(1, 3), min_df=2)
        return make_pipeline(spelt, grams)

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self.encoder.spelling(v) for v in values], dtype=object)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None
