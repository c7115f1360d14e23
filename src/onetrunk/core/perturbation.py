"""How values get worse on their way to a model: misspelt, blurred, noisy. Of any column type that says how.

An evaluation whose values can be disturbed so is `Perturbed`; `evaluation.audit.robustness` measures what it does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Draw:
    """What one value's change may depend on beside the value: its key, from which all randomness comes, and other
    values of the column."""

    key: int
    others: Sequence[Any]


@dataclass(frozen=True)
class Perturbation:
    """One way to change raw values, at several severities, the mildest first; `unit` is what a severity is of. `change`
    takes a value, a severity and a draw, and gives the changed value, or the same object where there is nothing to
    change."""

    name: str
    what: str
    unit: str
    severities: tuple[float, ...]
    change: Callable[[Any, float, Draw], Any]


class Perturbed(ABC):
    """Values can be disturbed as they are in the world; what they mean should stay the same."""

    @abstractmethod
    def perturbations(self) -> tuple[Perturbation, ...]: ...
