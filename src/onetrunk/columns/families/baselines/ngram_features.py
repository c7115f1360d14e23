"""Texts as TF-IDF of words or of runs of characters, for scikit-learn; in any script, case does not count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

from onetrunk.data.ngrams import character_ngrams, word_ngrams

_MAX_FEATURES = 200_000  # the most frequent
_MIN_ROWS = 2  # in which a feature stands
_MAX_CHARACTERS = 10_000  # of a text that are looked at,
_MAX_TOTAL_CHARACTERS = 20_000_000  # and of all texts together
_MIN_CHARACTERS = 200


class NgramFeatures(TransformerMixin, BaseEstimator):
    """Texts to float32 [n, F], rows of length 1. `kind`: "words" (runs of 1 and 2) or "characters" (of 1 to 5)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def fit(self, texts: Sequence[str], y: Any = None) -> Self:
        self.fit_transform(texts)
        return self

    def fit_transform(self, texts: Sequence[str], y: Any = None) -> sparse.csr_matrix:
        self.length_ = int(np.clip(_MAX_TOTAL_CHARACTERS // max(1, len(texts)), _MIN_CHARACTERS, _MAX_CHARACTERS))
        counted = self._counted(texts)
        features, rows_with = np.unique(counted[1], return_counts=True)
        often = rows_with >= (_MIN_ROWS if len(texts) > _MIN_ROWS else 1)
        features, rows_with = features[often], rows_with[often]
        if len(features) > _MAX_FEATURES:
            kept = np.sort(np.argsort(-rows_with, kind="stable")[:_MAX_FEATURES])
            features, rows_with = features[kept], rows_with[kept]
        self.features_ = features
        self.rarity_ = np.log((1 + len(texts)) / (1 + rows_with)) + 1
        return self._weighed(counted, len(texts))

    def transform(self, texts: Sequence[str]) -> sparse.csr_matrix:
        return self._weighed(self._counted(texts), len(texts))

    def _counted(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cut = [text[: self.length_] for text in texts]
        return word_ngrams(cut) if self.kind == "words" else character_ngrams(cut)

    def _weighed(self, counted: tuple[np.ndarray, np.ndarray, np.ndarray], n: int) -> sparse.csr_matrix:
        row, feature, count = counted
        size = len(self.features_)
        if not size:
            return sparse.csr_matrix((n, 0), dtype=np.float32)
        column = np.searchsorted(self.features_, feature).clip(max=size - 1)
        known = self.features_[column] == feature
        row, column = row[known], column[known]
        weight = (1 + np.log(count[known])) * self.rarity_[column]
        length = np.sqrt(np.bincount(row, weight**2, n))[row]
        return sparse.csr_matrix(((weight / length).astype(np.float32), (row, column)), shape=(n, size))
