"""Numbers for a linear model: as they are, and in which of some bins, as frequent as each other."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

_BINS = 16
_BOUND = 5.0  # standard units: one far-out value must not outweigh all others


class NumberBins(TransformerMixin, BaseEstimator):
    """[n, k + 1] of k numbers and whether they are missing, to sparse [n, F]: the same, cut at 5 standard units, and
    the bin of the first."""

    def fit(self, x: np.ndarray, y: Any = None) -> Self:
        present = x[x[:, -1] == 0, 0]
        shares = np.linspace(0, 1, _BINS + 1)[1:-1]
        self.borders_ = np.unique(np.quantile(present, shares)) if len(present) else np.zeros(0)
        return self

    def transform(self, x: np.ndarray) -> sparse.csr_matrix:
        bins = np.searchsorted(self.borders_, x[:, 0], side="right")
        there = np.flatnonzero(x[:, -1] == 0)
        shape = (len(x), len(self.borders_) + 1)
        hot = sparse.csr_matrix((np.ones(len(there)), (there, bins[there])), shape=shape)
        return sparse.hstack([sparse.csr_matrix(np.clip(x, -_BOUND, _BOUND)), hot], format="csr")
