"""Answers at every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onetrunk.core.answer import Answer


@dataclass
class Traced(Answer):
    """`p` [t, C] are the probabilities of every class at each of the latest t steps."""

    p: np.ndarray | None = None


@dataclass
class Shares(Answer):
    """What each class's share is, at any step, by a field's class: a baseline's answer. [1 + classes, C], the first
    where the class is unknown."""

    field: str | None = None
    by_class: np.ndarray | None = None
