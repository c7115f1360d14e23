"""What simple models see of a history: how often each class is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from onetrunk.columns.families.history.encoder import FIRST, HistoryEncoder
from onetrunk.core.errors import BadValueError
from onetrunk.core.evaluation import Evaluation

E = TypeVar("E", bound=HistoryEncoder)


class HistoryEvaluation(Evaluation[E]):
    def counted(self) -> list[str]:
        """Fields whose classes are counted as features."""
        return list(self.encoder.classes)

    def features(self) -> Any:
        """How often each class of the counted fields is there, sparse [n, classes]."""
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(self._counts)

    def _counts(self, values: Sequence[Any]) -> Any:
        from scipy.sparse import csr_matrix

        names = self.counted()
        first = np.cumsum([0, *(len(self.encoder.classes[name]) for name in names)])
        rows = [self._columns(value, names, first) for value in values]
        ends = np.append(0, np.cumsum([len(row) for row in rows]))
        columns = np.concatenate([*rows, np.zeros(0, np.int64)])
        return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(values), first[-1]))

    def _columns(self, value: Any, names: list[str], first: np.ndarray) -> np.ndarray:
        """The feature of each class that is there, int64; of nothing seen yet, none."""
        if value is None:
            return np.zeros(0, np.int64)
        try:
            arrays = self.encoder.encode(value)
        except BadValueError:
            return np.zeros(0, np.int64)
        columns = [arrays[name][arrays[name] >= FIRST] - FIRST + at for name, at in zip(names, first, strict=False)]
        return np.concatenate(columns).astype(np.int64)
