"""Baselines of ranked items: the most popular ones, and those that go with the ones seen."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator

from onetrunk.columns.items.ranking import Catalogue


class Ranker(BaseEstimator):
    """Takes sparse matrices: a catalogue has more items than a dense table can have columns."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """What scores items, once fitted."""

    @abstractmethod
    def queries(self, x: Any) -> Any:
        """Vectors of rows of features, [n, K]."""

    def predict(self, x: Any) -> np.ndarray:
        """Scores, float64 [n, count]."""
        return self.catalogue().scores(self.queries(x))

    def seen(self, x: Any) -> Any:
        """Items seen before, sparse [n, count]: the last columns of features, where there are so many."""
        if x.shape[1] < self.count:
            return sparse.csr_matrix((x.shape[0], self.count))
        return sparse.csr_matrix(x[:, -self.count :])

    def _whole(self, x: Any, y: np.ndarray) -> Any:
        """Items seen before and next, sparse [n, count]."""
        known = np.flatnonzero(y >= 0)
        return sparse.csr_matrix((np.ones(len(known)), (known, y[known])), shape=(len(y), self.count)) + self.seen(x)


class Popularity(Ranker):
    """Every item's share of what came next, and was seen before, in training."""

    def fit(self, x: Any, y: np.ndarray) -> Self:
        self.shares_ = np.asarray(self._whole(x, y).sum(0)).ravel()
        self.shares_ = self.shares_ / self.shares_.sum()
        return self

    def catalogue(self) -> Catalogue:
        return Catalogue(np.zeros((self.count, 0)), self.shares_)

    def queries(self, x: Any) -> Any:
        return np.zeros((x.shape[0], 0))


class ItemNeighbours(Ranker):
    """The sum of an item's cosine similarities to those seen (item kNN, Sarwar et al. 2001); popularity breaks ties."""

    def __init__(self, count: int, neighbours: int) -> None:
        super().__init__(count)
        self.neighbours = neighbours

    def fit(self, x: Any, y: np.ndarray) -> Self:
        whole = self._whole(x, y)
        whole.data[:] = 1
        popular = Popularity(self.count).fit(x, y).shares_
        norms = np.sqrt(np.asarray(whole.sum(0)).ravel())
        unit = whole @ sparse.diags(1 / np.maximum(norms, 1))
        similar = sparse.csr_matrix(unit.T @ unit)
        similar.setdiag(0)
        similar.eliminate_zeros()
        self.catalogue_ = Catalogue(_strongest(similar, self.neighbours).T, 1e-6 * popular)
        return self

    def catalogue(self) -> Catalogue:
        return self.catalogue_

    def queries(self, x: Any) -> Any:
        seen = self.seen(x)
        return sparse.csr_matrix((np.ones_like(seen.data), seen.indices, seen.indptr), shape=seen.shape)


def _strongest(similar: Any, max_count: int) -> Any:
    """The largest entries of every row."""
    kept = []
    for i in range(similar.shape[0]):
        row = np.arange(similar.indptr[i], similar.indptr[i + 1])
        if len(row) > max_count:
            row = row[np.argpartition(-similar.data[row], max_count)[:max_count]]
        kept.append(row)
    ends = np.append(0, np.cumsum([len(row) for row in kept]))
    chosen = np.concatenate([*kept, np.zeros(0, np.int64)]).astype(np.int64)
    return sparse.csr_matrix((similar.data[chosen], similar.indices[chosen], ends), shape=similar.shape)
