"""Classes, items, skills: things of a closed set, each known by one name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def name_of(value: Any) -> str:
    """One spelling a class: 1, 1.0 and "1" are one class."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, str) else str(value)


def kind_of(values: Iterable[Any]) -> str:
    """What the values are: bool, int, float or str."""
    values = list(values)
    if all(isinstance(v, bool | np.bool_) for v in values):
        return "bool"
    if all(isinstance(v, int | np.integer) or (isinstance(v, float) and v.is_integer()) for v in values):
        return "int"
    return "float" if all(isinstance(v, int | float | np.number) for v in values) else "str"


def value_of(name: str, kind: str) -> Any:
    """A name as the values of its kind are."""
    return name == "True" if kind == "bool" else {"int": int, "float": float, "str": str}[kind](name)
