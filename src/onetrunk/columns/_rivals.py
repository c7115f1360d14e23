"""Rivals of what reads histories: what is popular, what goes with what was seen, what is usual at a step."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator


class _OfHistories(BaseEstimator):
    """Takes sparse matrices: a catalogue has more items than a dense table can have columns."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class Popularity(_OfHistories):
    """Every item's share of what came next, and was seen before, in training."""

    def __init__(self, count: int) -> None:
        self.count = count

    def fit(self, x: Any, y: np.ndarray) -> Popularity:
        self.shares_ = np.asarray(_histories(x, y, self.count).sum(0)).ravel()
        self.shares_ = self.shares_ / self.shares_.sum()
        return self

    def predict(self, x: Any) -> np.ndarray:
        """Scores, float64 [n, count]."""
        return np.tile(self.shares_, (x.shape[0], 1))


class ItemNeighbours(_OfHistories):
    """The sum of an item's cosine similarities to those seen (item kNN, Sarwar et al. 2001); popularity breaks ties."""

    def __init__(self, count: int, neighbours: int) -> None:
        self.count, self.neighbours = count, neighbours

    def fit(self, x: Any, y: np.ndarray) -> ItemNeighbours:
        whole = _histories(x, y, self.count)
        whole.data[:] = 1
        self.popular_ = Popularity(self.count).fit(x, y).shares_
        norms = np.sqrt(np.asarray(whole.sum(0)).ravel())
        unit = whole @ sparse.diags(1 / np.maximum(norms, 1))
        similar = sparse.csr_matrix(unit.T @ unit)
        similar.setdiag(0)
        similar.eliminate_zeros()
        self.similar_ = _strongest(similar, self.neighbours)
        return self

    def predict(self, x: Any) -> np.ndarray:
        seen = sparse.csr_matrix(x[:, -self.count :], copy=True)
        seen.data[:] = 1
        return (seen @ self.similar_).toarray() + 1e-6 * self.popular_


class StepShares(BaseEstimator):
    """How often each class was the answer in training, at steps with the same class of a field."""

    def __init__(self, asked: str, count: int, first: int, field: str | None = None) -> None:
        self.asked, self.count, self.first, self.field = asked, count, first, field

    def fit(self, x: Any, y: np.ndarray) -> StepShares:
        """`y` holds encoded histories, whose classes begin at row `first`."""
        then = np.concatenate([parts[self.asked] for parts in y]) - self.first
        by = (
            np.zeros_like(then)
            if self.field is None
            else np.concatenate([parts[self.field] for parts in y]) - self.first + 1
        )
        by, then = np.maximum(by, 0)[then >= 0], then[then >= 0]
        counts = np.zeros((by.max(initial=0) + 1, self.count))
        np.add.at(counts, (by, then), 1)
        whole = counts.sum(0) / counts.sum()
        self.by_class_ = (counts + whole) / (counts.sum(1, keepdims=True) + 1)
        return self


def _histories(x: Any, y: np.ndarray, count: int) -> sparse.csr_matrix:
    """Items seen before and next, sparse [n, count]; the last columns of x are those seen, where it has so many."""
    known = np.flatnonzero(y >= 0)
    then = sparse.csr_matrix((np.ones(len(known)), (known, y[known])), shape=(len(y), count))
    return then + sparse.csr_matrix(x[:, -count:]) if x.shape[1] >= count else then


def _strongest(similar: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """The largest entries of every row."""
    kept = []
    for i in range(similar.shape[0]):
        row = np.arange(similar.indptr[i], similar.indptr[i + 1])
        if len(row) > most:
            row = row[np.argpartition(-similar.data[row], most)[:most]]
        kept.append(row)
    ends = np.append(0, np.cumsum([len(row) for row in kept]))
    at = np.concatenate([*kept, np.zeros(0, np.int64)]).astype(np.int64)
    return sparse.csr_matrix((similar.data[at], similar.indices[at], ends), shape=similar.shape)
