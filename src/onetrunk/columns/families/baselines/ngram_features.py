"""Texts as TF-IDF of words or of runs of characters, for scikit-learn; in any script, case does not count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

from onetrunk.data.ngrams import blocks_of_characters, blocks_of_words

_MAX_FEATURES = 200_000  # the most frequent
_MIN_ROWS = 2  # in which a feature stands
_MAX_CHARACTERS = 10_000  # of a text that are looked at,
_MAX_TOTAL_CHARACTERS = 10_000_000  # and of all texts together
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
        counted = list(self._counted(texts))
        features, rows_with = _rows_with([block.feature for block in counted])
        often = rows_with >= (_MIN_ROWS if len(texts) > _MIN_ROWS else 1)
        features, rows_with = features[often], rows_with[often]
        if len(features) > _MAX_FEATURES:
            kept = np.sort(np.argsort(-rows_with, kind="stable")[:_MAX_FEATURES])
            features, rows_with = features[kept], rows_with[kept]
        self.features_ = features
        self.rarity_ = np.log((1 + len(texts)) / (1 + rows_with)) + 1
        counted.reverse()
        return self._weighed((counted.pop() for _ in range(len(counted))), len(texts))

    def transform(self, texts: Sequence[str]) -> sparse.csr_matrix:
        return self._weighed(self._counted(texts), len(texts))

    def _counted(self, texts: Sequence[str]) -> Iterator[_Block]:
        cut = [text[: self.length_] for text in texts]
        for row, feature, count in blocks_of_words(cut) if self.kind == "words" else blocks_of_characters(cut):
            yield _Block(row.astype(np.int32), feature, count.astype(np.uint16))

    def _weighed(self, counted: Iterable[_Block], n: int) -> sparse.csr_matrix:
        """Blocks become weights one by one: as they are, they take far more memory."""
        size = len(self.features_)
        per_row, columns, weights = np.zeros(n, dtype=np.int64), [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        for block in counted if size else ():
            column = np.searchsorted(self.features_, block.feature).clip(max=size - 1)
            known = self.features_[column] == block.feature
            row, column = block.row[known], column[known]
            weight = (1 + np.log(block.count[known].astype(np.float64))) * self.rarity_[column]
            first, last = (int(block.row[0]), int(block.row[-1]) + 1) if len(block.row) else (0, 0)
            length = np.sqrt(np.bincount(row - first, weight**2, last - first))[row - first]
            per_row[first:last] += np.bincount(row - first, minlength=last - first)
            columns.append(column.astype(np.int32))
            weights.append((weight / length).astype(np.float32))
        ends = np.concatenate([[0], np.cumsum(per_row)])
        return sparse.csr_matrix((_emptied(weights), _emptied(columns), ends), shape=(n, size))


@dataclass(frozen=True)
class _Block:
    """Features of some texts, in the order of rows, as `ngrams` counts them."""

    row: np.ndarray  # int32 [n]
    feature: np.ndarray  # uint64 [n]
    count: np.ndarray  # uint16 [n]: a text has at most 10,000 characters


def _rows_with(blocks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All features, increasing, and in how many rows each stands."""
    some = [np.unique(block, return_counts=True) for block in blocks]
    if not some:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    features, where = np.unique(np.concatenate([own for own, _ in some]), return_inverse=True)
    rows = np.bincount(where, np.concatenate([count for _, count in some]), len(features))
    return features, rows.astype(np.int64)


def _emptied(arrays: list[np.ndarray]) -> np.ndarray:
    """One behind the other; the list is empty then, and its arrays are gone."""
    joined = np.concatenate(arrays)
    arrays.clear()
    return joined
