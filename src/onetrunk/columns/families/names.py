"""Classes, items, skills: things of a closed set, each known by one name."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}))?)?")


def name_of(value: Any) -> str:
    """One spelling a class: 1, 1.0 and "1" are one class."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, str) else str(value)


def meaning(value: Any) -> tuple[str, Any] | None:
    """What a class means beside its name, equal for other spellings of it: true and TRUE, 1 and 1.0, 18:00 and
    18:00:00, a day and its midnight; None of a word."""
    if isinstance(value, bool | np.bool_):
        return "truth", bool(value)
    if isinstance(value, int | float | np.number):
        try:
            return "quantity", float(value)
        except OverflowError:  # a whole number of hundreds of digits, which means no quantity that we know
            return None
    if isinstance(value, datetime.datetime):
        return "moment", value.isoformat()
    if isinstance(value, datetime.date):
        return "moment", f"{value.isoformat()}T00:00:00"
    return _meaning_of_text(value.strip()) if isinstance(value, str) else None


def _meaning_of_text(text: str) -> tuple[str, Any] | None:
    if text.lower() in ("true", "false"):
        return "truth", text.lower() == "true"
    if _NUMBER.fullmatch(text):
        return "quantity", float(text)
    if time := _TIME.fullmatch(text):
        return "time", f"{int(time[1]):02}:{time[2]}:{time[3] or '00'}"
    if moment := _MOMENT.fullmatch(text):
        return "moment", f"{moment[1]}T{moment[2] or '00:00'}:{moment[3] or '00'}"
    return None


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


def check_names(names: Sequence[Any], kind: str) -> None:
    """Raises TypeError, KeyError or ValueError where these are not the different names of values of that kind."""
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise TypeError(f"classes should have different names, texts; found {list(names)[:5]}")
    for name in names:
        value_of(name, kind)


class ClassFinder:
    """Finds the class that a value names, in whatever spelling or type it comes in: first by its name, then by what it
    means, where only one class means that."""

    def __init__(self, classes: Sequence[str], kind: str) -> None:
        self._classes, self._kind = classes, kind
        self._rows = {name: row for row, name in enumerate(classes)}
        self._means: dict[tuple[str, Any], int] | None = None  # made when a name is not found: catalogues are large

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, value: Any) -> int:
        """The number of the class, -1 of one that is not known."""
        row = self._rows.get(name_of(value), -1)
        means = meaning(value) if row < 0 else None
        if means is None:
            return row
        if self._means is None:
            meant = [meaning(value_of(name, self._kind)) for name in self._classes]
            counts = Counter(meant)  # what several classes mean says nothing
            self._means = {each: i for i, each in enumerate(meant) if each is not None and counts[each] == 1}
        kind, what = means
        if means not in self._means and kind in ("truth", "quantity") and what in (0, 1):
            means = ("quantity", float(what)) if kind == "truth" else ("truth", bool(what))  # written as 1 and 0
        return self._means.get(means, -1)

    def name(self, value: Any) -> str:
        """Of the class that a value names; its own of one that is not known."""
        row = self(value)
        return name_of(value) if row < 0 else self._classes[row]
