"""The types of a text table's cells: a column has the first type that all of its cells can be read as.

Kinds are Arrow's for CSV, in its order: whole numbers, truth values, dates, times, moments, numbers, text.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")
TEXT, DECIMAL = "string", "decimal"

_TRUE = pa.array(["1", "true", "TRUE", "True"])
_FALSE = pa.array(["0", "false", "FALSE", "False"])


def _trimmed(cells: pa.Array) -> pa.Array:
    return pc.utf8_trim(cells, " \t")


def _truth(cells: pa.Array) -> pa.Array:
    yes = pc.is_in(cells, value_set=_TRUE)
    if pc.any(pc.invert(pc.or_(yes, pc.or_kleene(pc.is_in(cells, value_set=_FALSE), pc.is_null(cells))))).as_py():
        raise pa.ArrowInvalid("not a truth value")
    return pc.if_else(pc.is_null(cells), pa.scalar(None, pa.bool_()), yes)


def _times(cells: pa.Array) -> pa.Array:
    """As text with seconds."""
    cells = _trimmed(cells)
    if pc.any(pc.invert(pc.match_substring_regex(cells, r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"))).as_py():
        raise pa.ArrowInvalid("not a time")
    short = pc.less(pc.utf8_length(cells), 6)
    return pc.if_else(short, pc.binary_join_element_wise(cells, "00", ":"), cells)


def _moments(unit: str, zone: str | None) -> Callable[[pa.Array], pa.Array]:
    return lambda cells: cells.cast(pa.timestamp(unit, zone))


_KINDS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "whole": lambda cells: _trimmed(cells).cast(pa.int64()),
    "truth": _truth,
    "day": lambda cells: _trimmed(cells).cast(pa.date32()),
    "time": _times,
    "moment": _moments("s", None),
    "exact moment": _moments("ns", None),
    "moment in a zone": _moments("s", "UTC"),
    "exact moment in a zone": _moments("ns", "UTC"),
    DECIMAL: lambda cells: _trimmed(cells).cast(pa.float64()),
}


class Kind:
    """Finds a column's kind from its cells, which come in blocks (Arrow strings, null where missing)."""

    def __init__(self) -> None:
        self._open = list(_KINDS)
        self._code = False  # 007 and 000001 are codes, not the numbers 7 and 1

    def look(self, cells: pa.Array) -> None:
        """Rules out the kinds that these cells are not of."""
        if not self._open:
            return
        cells = cells.drop_null()
        self._open = [kind for kind in self._open if _reads(kind, cells)]
        if "whole" in self._open and not self._code:
            self._code = bool(pc.any(pc.match_substring_regex(cells, r"^0\d")).as_py())

    @property
    def name(self) -> str:
        """Of all cells looked at so far."""
        first = self._open[0] if self._open else TEXT
        return TEXT if first == "whole" and self._code else first


def _reads(kind: str, cells: pa.Array) -> bool:
    if not len(cells):
        return True
    try:
        _KINDS[kind](cells[:1])  # most columns of text are known by their first cell
        _KINDS[kind](cells)
    except pa.ArrowInvalid:
        return False
    return True


def typed(cells: pa.Array, kind: str) -> pa.Array:
    """The cells as values of their column's kind."""
    return cells if kind == TEXT else _KINDS[kind](cells)
