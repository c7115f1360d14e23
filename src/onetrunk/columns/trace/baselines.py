"""The baseline of a trace: the usual share of each class at such a step."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator


class StepShares(BaseEstimator):
    """How often each class was the answer in training, at steps with the same class of a field."""

    def __init__(self, asked: str, count: int, first: int, field: str | None = None) -> None:
        self.asked, self.count, self.first, self.field = asked, count, first, field

    def fit(self, x: Any, y: np.ndarray) -> StepShares:
        """`y` holds encoded histories, whose classes begin at row `first`."""
        then = np.concatenate([steps[self.asked] for steps in y]) - self.first
        by = (
            np.zeros_like(then)
            if self.field is None
            else np.concatenate([steps[self.field] for steps in y]) - self.first + 1
        )
        by, then = np.maximum(by, 0)[then >= 0], then[then >= 0]
        counts = np.zeros((by.max(initial=0) + 1, self.count))
        np.add.at(counts, (by, then), 1)
        whole = counts.sum(0) / counts.sum()
        self.by_class_ = (counts + whole) / (counts.sum(1, keepdims=True) + 1)
        return self
