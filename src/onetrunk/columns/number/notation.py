"""How numbers are written: with a decimal point or comma, signs between thousands, a currency, a unit, k or 万.

One column is written in one way, which is decided on all of its values and kept as options of the column.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from onetrunk.core.errors import BadValueError

Decimal = Literal[".", ","]

_SPACE = " \u00a0\u202f\u2009"
_DIGITS = {
    ".": re.compile(rf"[1-9]\d{{0,2}}([,'’{_SPACE}])\d{{3}}(?:\1\d{{3}})*(?:\.\d+)?|(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    ",": re.compile(rf"[1-9]\d{{0,2}}([.'’{_SPACE}])\d{{3}}(?:\1\d{{3}})*(?:,\d+)?|(\d+,?\d*|,\d+)([eE][+-]?\d+)?"),
}
_BETWEEN_THOUSANDS = {".": re.compile(rf"[,'’{_SPACE}]"), ",": re.compile(rf"[.'’{_SPACE}]")}
_CURRENCIES = "$€£¥￥₩₹₽฿₫₺₴₦"
_CODES = r"(?:USD|EUR|GBP|CNY|RMB|JPY|CHF|KRW|INR|Rs\.?)"
_CURRENCY = rf"(?:US|CA|HK|NT|R|A|C)?\$|[{_CURRENCIES}]|{_CODES}(?=[{_SPACE}\d])"
_LETTERS = r"A-Za-zµμΩ°℃℉'\"′″”%‰\u4e00-\u9fff\uac00-\ud7a3"
_UNIT = rf"[{_LETTERS}{_CURRENCIES}][{_LETTERS}²³/·^.]{{0,11}}(?: [A-Za-z²³]{{1,6}})?"
_CELL = re.compile(
    rf"(?P<sign>[+\-−]?)(?P<before>{_CURRENCY})?[{_SPACE}]*(?P<sign2>[+\-−]?)"
    rf"(?P<digits>[\d.,](?:[\d.,'’{_SPACE}]*\d)?[.,]?(?:[eE][+-]?\d+)?)[{_SPACE}]*(?P<after>{_UNIT})?"
)
_SHORT = {"k": 1e3, "K": 1e3, "千": 1e3, "万": 1e4, "萬": 1e4, "億": 1e8, "亿": 1e8}
_SHORTER = {
    "M": 1e6,
    "mn": 1e6,
    "Mio": 1e6,
    "B": 1e9,
    "bn": 1e9,
    "T": 1e12,
}  # with k, or a currency: else they are units
_NOT_FINITE = {"nan", "inf", "infinity"}

# Units of one kind, as multiples of one of them: cells are brought to one unit only where each of them says its own.
_KINDS: tuple[dict[str, float], ...] = (
    {"mg": 1e-6, "g": 1e-3, "kg": 1.0, "t": 1e3, "克": 1e-3, "千克": 1.0, "公斤": 1.0, "斤": 0.5, "吨": 1e3},
    {"oz": 1 / 16, "lb": 1.0},
    {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3, "毫米": 1e-3, "厘米": 1e-2, "米": 1.0, "公里": 1e3, "千米": 1e3},
    {"inch": 1.0, "in": 1.0, "ft": 12.0, '"': 1.0, "″": 1.0, "”": 1.0},
    {"ml": 1e-3, "mL": 1e-3, "cl": 1e-2, "dl": 0.1, "l": 1.0, "L": 1.0, "毫升": 1e-3, "升": 1.0},
    {"ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "hr": 3600.0, "秒": 1.0, "分钟": 60.0, "小时": 3600.0},
    {"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12},
    {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    {"W": 1.0, "kW": 1e3, "MW": 1e6},
    {"元": 1.0, "万元": 1e4, "亿元": 1e8},
)
_NAMES = {name: kind for kind in _KINDS for name in kind}


@dataclass(frozen=True)
class Cell:
    """A written number: its digits, and what stands around them."""

    number: float
    unit: str


@dataclass(frozen=True)
class Notation:
    """How the numbers of one column are written. `unit` is what stands before or after each; `short`: k, M and B are
    thousands, millions and billions."""

    decimal: Decimal = "."
    unit: str = ""
    short: bool = False

    def number(self, text: str) -> float:
        """A finite number in the column's unit. Raises BadValueError that says what was found."""
        return _number(text, self)

    def shown(self, number: float) -> str:
        """A number with its unit, for a person."""
        written = f"{number:g}"
        if not self.unit:
            return written
        if self.unit[0] in _CURRENCIES or self.unit[-1] in "$":
            return f"{self.unit}{written}"
        return f"{written}{self.unit}" if self.unit in "%‰°\"'′″”" else f"{written} {self.unit}"


@lru_cache(maxsize=8192)  # columns repeat their spellings
def _number(text: str, notation: Notation) -> float:
    stripped = text.strip()
    if stripped.lstrip("+-").lower() in _NOT_FINITE:
        raise BadValueError(f"{text!r} is not a finite number")
    cell = parse(stripped, notation.decimal, notation.short)
    if cell is None:
        other = parse(stripped, "," if notation.decimal == "." else ".", notation.short)
        sign = "decimal point" if notation.decimal == "." else "decimal comma"
        hint = "" if other is None else f" written with a {sign}, as this column is"
        raise BadValueError(f"{text!r} is not a number{hint}")
    if cell.unit and cell.unit != notation.unit:
        factor = conversion(cell.unit, notation.unit)
        if factor is None:
            unit = f"in {notation.unit}" if notation.unit else "without a unit"
            raise BadValueError(f"{text!r} has the unit {cell.unit!r}; the column's numbers are {unit}")
        return cell.number * factor
    if not math.isfinite(cell.number):
        raise BadValueError(f"{text!r} is not a finite number")
    return cell.number


def parse(text: str, decimal: Decimal, short: bool = False) -> Cell | None:
    """A number as it is written, without blanks around it; None where it is none."""
    match = _CELL.fullmatch(text)
    if match is None or (match["sign"] and match["sign2"]):
        return None
    digits = match["digits"]
    if not _DIGITS[decimal].fullmatch(digits):
        return None
    digits = _BETWEEN_THOUSANDS[decimal].sub("", digits).replace(",", ".")
    number = float(digits) * (-1 if (match["sign"] or match["sign2"]) in ("-", "−") else 1)
    before, after = match["before"] or "", (match["after"] or "").strip()
    factor, after = _shortened(after, short or bool(before))
    if before and after:
        return None
    return Cell(number * factor, before or after)


def _shortened(after: str, short: bool) -> tuple[float, str]:
    """What k, M or 万 multiply by, and what is left of a unit."""
    for sign, factor in _SHORTER.items() if short else ():
        if after == sign or (after.startswith(sign) and after[len(sign)] in _CURRENCIES):
            return factor, after.removeprefix(sign)
    if after in _NAMES:
        return 1.0, after
    for sign, factor in _SHORT.items():
        rest = after.removeprefix(sign)
        if rest != after and (not rest or rest[0] in _CURRENCIES or not sign.isascii()):
            return factor, rest.strip()
    return 1.0, after


def conversion(unit: str, to: str) -> float | None:
    """How many of one unit another is, where both are known to be of one kind. Years are as many as year."""
    unit, to = _singular(unit), _singular(to)
    if unit == to:
        return 1.0
    kind = _NAMES.get(unit)
    return kind[unit] / kind[to] if kind is not None and to in kind else None


def _singular(unit: str) -> str:
    return unit if unit in _NAMES or len(unit) < 3 else unit.removesuffix("s")


# -- of a whole column -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class NotationChoice:
    """How a column is written; `sure`: do its values say where the decimals begin?"""

    notation: Notation
    sure: bool
    example: str  # that told, or that could be read in two ways


def decide(counts: Mapping[str, int], likely: Mapping[str, Any]) -> NotationChoice | None:
    """How cells, each with how often it occurs, are written; None where they are no numbers of one kind."""
    point = {text: cell for text in counts if (cell := parse(text, "."))}
    comma = {text: cell for text in counts if (cell := parse(text, ","))}
    only_point = [text for text in point if text not in comma]
    only_comma = [text for text in comma if text not in point]
    differing = [text for text in point if text in comma and point[text].number != comma[text].number]
    weights = [sum(counts[text] for text in only) for only in (only_point, only_comma)]
    decimal: Decimal = "."
    sure = bool(only_point or only_comma) or not differing
    if sure:
        decimal = "," if weights[1] > weights[0] else "."
    elif likely.get("decimal") == ",":
        decimal = ","
    else:  # 1.234 is what it looks like; 1,234 is so in half of the world
        sure = not any("," in text for text in differing)
    telling = (only_comma if decimal == "," else only_point) or differing or list(counts)
    cells = comma if decimal == "," else point
    short = any(_shortened_by_k(text) for text in cells)
    if short:
        cells = {text: cell for text in counts if (cell := parse(text, decimal, True))}
    unit = _unit(counts, cells)
    if unit is None or not cells:
        return None
    return NotationChoice(Notation(decimal, unit, short), sure, telling[0])


def _shortened_by_k(text: str) -> bool:
    return re.search(r"\d[kK]$", text) is not None


def _unit(counts: Mapping[str, int], cells: Mapping[str, Cell]) -> str | None:
    """The unit of a column; None where it has several that cannot be brought to one."""
    units: Counter[str] = Counter()
    for text, cell in cells.items():
        units[cell.unit] += counts[text]
    if not units:
        return None
    bare, named = units.pop("", 0), units
    if not named:
        return ""
    best = min(named, key=lambda unit: (-named[unit], unit))
    others = [unit for unit in named if unit != best]
    if all(conversion(unit, best) is not None for unit in others) and (not others or not bare):
        return best if named.total() >= bare else ""
    if named[best] >= 0.9 * (named.total() + bare):
        return best  # the others are bad values
    return "" if bare >= 0.8 * (named.total() + bare) else None
