"""The features of given columns for a *wide* read-out beside the trunk (arXiv 1606.07792): n-grams, classes, bins.
NumPy only.

An encoder whose values have such features is `Wide`. They are functions of the encoded content, so that everything that
can be asked of a model (answers, exports, explanations) can have them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from onetrunk.core.content import Content


@dataclass(frozen=True)
class Sparse:
    """Named features of m values, most of them absent in each: value `row[i]` (ascending) has `feature[i]` with
    `weight[i]`. With `counted`, weights are counts of words: frequent ones say less (TF-IDF)."""

    row: np.ndarray  # int64 [n]
    feature: np.ndarray  # uint64 [n]
    weight: np.ndarray  # float32 [n]
    counted: bool = False


@dataclass(frozen=True)
class WideFeatures:
    """Of m values. `dense` holds numbers that trees may split, NaN where missing; `key` is equal for equal values,
    where the mean of the asked column over a value's rows is worth knowing (target encoding)."""

    count: int  # m
    sparse: dict[str, Sparse] = field(default_factory=dict)
    dense: np.ndarray | None = None  # float64 [m, k]
    key: np.ndarray | None = None  # uint64 [m]

    @property
    def found(self) -> int:
        """How many sparse features there are: a long text has thousands."""
        return sum(len(each.row) for each in self.sparse.values())

    def between(self, first: int, last: int) -> WideFeatures:
        """Of the values from `first` up to `last`."""
        sparse = {}
        for kind, each in self.sparse.items():
            start, end = np.searchsorted(each.row, (first, last))
            feature, weight = each.feature[start:end], each.weight[start:end]
            sparse[kind] = Sparse(each.row[start:end] - first, feature, weight, each.counted)
        dense = None if self.dense is None else self.dense[first:last]
        return WideFeatures(last - first, sparse, dense, None if self.key is None else self.key[first:last])

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name: of every kind `KIND.row`, `KIND.feature` (as `signed`) and `KIND.weight` [n]; `dense`
        [m, k] and `key` (as `signed`) [m], where there are any."""
        out: dict[str, np.ndarray] = {}
        for kind, each in self.sparse.items():
            out |= {f"{kind}.row": np.asarray(each.row, dtype=np.int64), f"{kind}.feature": signed(each.feature)}
            out[f"{kind}.weight"] = np.asarray(each.weight, dtype=np.float32)
        if self.dense is not None:
            out["dense"] = np.asarray(self.dense, dtype=np.float64)
        if self.key is not None:
            out["key"] = signed(self.key)
        return out


class WideTarget(ABC):
    """Answers of the column can have a wide read-out."""

    @abstractmethod
    def wide_target(self, content: Content) -> tuple[np.ndarray, int]:
        """What models learn, and how many classes there are: class numbers int64 [m], -1 where there is nothing to
        learn; classes at once float32 [m, K]; or numbers float64 [m] of no classes (0), NaN where there is nothing."""

    def wide_shares(self, content: Content) -> np.ndarray | None:
        """Of answers that are distributions over the classes each class's share, float32 [m, K]; else None."""
        return None

    def expect_around(  # noqa: B027 - most types have nothing to do
        self, outputs: np.ndarray, residuals: np.ndarray
    ) -> None:
        """Learns how far numbers are from what the wide read-out says of them, float64 [m] each: the module's answers
        are distributions around that. Of classes there is nothing to learn."""


def wide_target_of(encoder: object) -> WideTarget:
    """The encoder, of a column whose answers can have a wide read-out. Raises TypeError for others."""
    if not isinstance(encoder, WideTarget):
        raise TypeError(f"answers of {type(encoder).__name__} can have no wide read-out")
    return encoder


class Wide(ABC):
    """Values have features for a wide read-out."""

    @abstractmethod
    def wide_features(self, content: Content) -> WideFeatures:
        """Of encoded values; nothing is drawn, nothing is left out."""


def signed(numbers: np.ndarray) -> np.ndarray:
    """Unsigned numbers as int64 of the same order, for what compares signed ones alone: the highest bit is turned."""
    return np.asarray(numbers, dtype=np.uint64).view(np.int64) ^ np.int64(-(1 << 63))


def one_each(ids: np.ndarray, counted: bool = False) -> Sparse:
    """One feature a value, int64 [m]; none where it is negative."""
    row = np.flatnonzero(ids >= 0)
    return Sparse(row, ids[row].astype(np.uint64), np.ones(len(row), dtype=np.float32), counted)


def numbers(values: np.ndarray) -> Sparse:
    """Numbers [m, k] as k features, each with its number for a weight; none where it is NaN."""
    row, feature = np.nonzero(np.isfinite(values))
    return Sparse(row, feature.astype(np.uint64), values[row, feature].astype(np.float32))
