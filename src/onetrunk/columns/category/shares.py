"""A label that is a distribution: {"yes": 0.7, "no": 0.3}, of several annotators or of a larger model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.names import name_of
from onetrunk.core.errors import BadValueError

_CLOSE_TO_ONE = 0.01  # shares are rounded
_EXPECTED = 'expected shares of classes that sum to 1, like {"yes": 0.7, "no": 0.3}'


def is_distribution(value: Any) -> bool:
    """Shares of classes that sum to 1; a class without one (Arrow fills it in with nothing) has 0."""
    return isinstance(value, Mapping) and _problem(value) is None


def shares_of(value: Mapping[Any, Any]) -> dict[str, float]:
    """Each class's share, by its name: above 0, and 1 in all. Raises BadValueError that says what was found."""
    if (problem := _problem(value)) is not None:
        raise BadValueError(f"{_EXPECTED}; found {str(dict(value))[:80]}, {problem}")
    total = sum(float(share) for share in value.values() if share is not None)
    out: dict[str, float] = {}
    for key, share in value.items():
        if share:
            out[name_of(key)] = out.get(name_of(key), 0.0) + float(share) / total
    return out


def _problem(value: Mapping[Any, Any]) -> str | None:
    shares = [share for share in value.values() if share is not None]
    if not shares:
        return "which holds no share"
    if not all(isinstance(x, int | float | np.number) and not isinstance(x, bool) for x in shares):
        return "whose values are not all numbers"
    if not all(0 <= float(x) <= 1 + _CLOSE_TO_ONE for x in shares):
        return "whose shares are not all from 0 to 1"
    total = math.fsum(map(float, shares))
    return None if abs(total - 1) <= _CLOSE_TO_ONE else f"which sums to {total:g}"


def largest(shares: Mapping[str, float], order: Sequence[str] = ()) -> str:
    """The class of the largest share; of equal ones the first in order, then by name."""
    rank = {name: i for i, name in enumerate(order)}
    return min(shares, key=lambda name: (-shares[name], rank.get(name, len(rank)), name))


def written(shares: Mapping[str, float]) -> str:
    """For a person: yes 70 %, no 30 %."""
    return ", ".join(f"{name} {100 * share:.3g} %" for name, share in sorted(shares.items(), key=lambda x: -x[1]))
