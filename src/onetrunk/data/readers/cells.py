"""The types of a text table's cells: a column has the first type that all of its cells can be read as.

Kinds are Arrow's for CSV, in its order: whole numbers, truth values, dates, times, moments, numbers, text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")
TEXT, DECIMAL = "string", "decimal"

_DIGITS = 16  # more are not all held by a float
_ZERO_IN_FRONT = re.compile(r"[+-]?0\d")
_LONG = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"^[+-]?(\d+\.\d*|\d*\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?$")
_MAX_CODES = 1000  # different spellings that are looked at
_FEW_CODES, _FEW_ROWS = 20, 0.05  # so many different ones, or this share of the rows, may be codes

_TRUE = ("1", "true", "TRUE", "True")
_FALSE = ("0", "false", "FALSE", "False")


@cache
def _one_of(words: tuple[str, ...]) -> pa.Array:
    """Made when it is needed: the first array that PyArrow makes imports pandas, which takes a while."""
    return pa.array(words)


def _trimmed(cells: pa.Array) -> pa.Array:
    return pc.utf8_trim(cells, " \t")


def _truth(cells: pa.Array) -> pa.Array:
    yes = pc.is_in(cells, value_set=_one_of(_TRUE))
    if pc.any(
        pc.invert(pc.or_(yes, pc.or_kleene(pc.is_in(cells, value_set=_one_of(_FALSE)), pc.is_null(cells))))
    ).as_py():
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
    """Finds a column's kind from its cells, which come in blocks (Arrow strings, null where missing). Where words that
    stand for missing values are `quoted`, they are data of a column of text, and nothing in any other."""

    def __init__(self, quoted: bool = False) -> None:
        self._open = list(_KINDS)
        self._code = False  # 007 and 000001 are codes, not the numbers 7 and 1
        self._rows = 0
        self._spellings: pa.Array | None = pa.nulls(0, pa.string())  # of numbers; None: too many for codes
        self._quoted = quoted
        self.words = False  # are there such words? Of text nobody asks

    def look(self, cells: pa.Array) -> None:
        """Rules out the kinds that these cells are not of."""
        if not self._open:
            return
        cells = cells.drop_null()
        if self._quoted and pc.any(words := pc.is_in(cells, value_set=_one_of(MISSING))).as_py():
            self.words = True
            cells = cells.filter(pc.invert(words))
        self._rows += len(cells)
        self._open = [kind for kind in self._open if _reads(kind, cells)]
        if self._open and not self._code and len(cells):
            if "whole" in self._open:
                self._code = bool(pc.any(pc.match_substring_regex(cells, r"^0\d")).as_py())
            elif self._open[0] == DECIMAL:
                self._look_for_codes(cells)

    def _look_for_codes(self, cells: pa.Array) -> None:
        """Cheap where there are none: most columns of decimals have many spellings."""
        zero = cells.filter(pc.starts_with(cells, "0"))
        zero = zero.filter(pc.invert(pc.starts_with(zero, "0.")))
        long = cells
        if (pc.max(pc.utf8_length(cells)).as_py() or 0) > _DIGITS:
            long = cells.filter(pc.invert(pc.match_substring(cells, ".")))
        self._code = are_codes(pc.unique(zero).to_pylist())
        self._code = self._code or (long is not cells and are_codes(pc.unique(long).to_pylist()))
        if self._spellings is not None:
            few = pc.unique(cells)
            both = pc.unique(pa.concat_arrays([self._spellings, few])) if len(self._spellings) else few
            self._spellings = both if len(both) <= _MAX_CODES else None

    @property
    def name(self) -> str:
        """Of all cells looked at so far."""
        first = self._open[0] if self._open else TEXT
        if first in ("whole", DECIMAL) and (self._code or self._has_twins()):
            return TEXT
        return first

    def _has_twins(self) -> bool:
        spelt = self._spellings
        if spelt is None or pc.count_distinct(_KINDS[DECIMAL](spelt)).as_py() == len(spelt):
            return False  # the usual case, quickly: each is a number of its own
        return are_codes(spelt.to_pylist(), self._rows)


def are_codes(spellings: Iterable[str], rows: int = 0) -> bool:
    """Would these different spellings of numbers lose something as numbers? Zeros in front (007, 008.45), more digits
    than a float holds, and, where they are few enough for codes of so many rows, two that are one number (3.1 and 3.10,
    1E5 and 10E4). Whether a number has a point (1 and 1.0) is no such thing."""
    spelt: dict[float, str] = {}
    twins = False
    for text in spellings:
        text = text.strip()
        if _ZERO_IN_FRONT.match(text) or (len(text) > _DIGITS and _LONG.fullmatch(text)):
            return True
        if _FRACTION.search(text):
            number = float(text)
            bare = text.lstrip("+0").lower()
            twins |= number != 0 and spelt.setdefault(number, bare) != bare
    return twins and len(spelt) <= max(_FEW_CODES, _FEW_ROWS * rows)


def _reads(kind: str, cells: pa.Array) -> bool:
    if not len(cells):
        return True
    try:
        _KINDS[kind](cells[:1])  # most columns of text are known by their first cell
        _KINDS[kind](cells)
    except pa.ArrowInvalid:
        return False
    return True


def typed(cells: pa.Array, kind: str, quoted: bool = False) -> pa.Array:
    """The cells as values of their column's kind."""
    if quoted:
        nothing = pc.equal(cells, "") if kind == TEXT else pc.is_in(cells, value_set=_one_of(MISSING))
        # Nulls as an array: with a scalar, Arrow before 24 reads a slice of strings from the wrong place.
        cells = pc.if_else(pc.fill_null(nothing, False), pa.nulls(len(cells), cells.type), cells)
    return cells if kind == TEXT else _KINDS[kind](cells)
