"""Answers at every step."""

from __future__ import annotations

import dataclasses

import numpy as np

from onetrunk.core.answer import Answer


@dataclasses.dataclass
class Traced(Answer):
    """`p` [t, C] are the probabilities of every class at each of the latest t steps."""

    p: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))


@dataclasses.dataclass
class Shares(Answer):
    """What each class's share is, at any step, by a field's class: a baseline's answer. [1 + classes, C], the first
    where the class is unknown."""

    field: str | None = None
    by_class: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))
