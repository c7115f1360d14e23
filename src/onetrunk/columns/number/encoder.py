"""Numbers and their spellings: "3.5", "-1e3", "1,234"."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from onetrunk.columns.families.scalar.encoder import ScalarEncoder
from onetrunk.core.content import Content
from onetrunk.core.errors import BadValueError

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_CODE = re.compile(r"0\d+")  # 007, 01730: a name made of digits
_NOT_FINITE = {"nan", "inf", "infinity"}
_FEW = 10  # as many whole numbers or fewer look like classes


class NumberEncoder(ScalarEncoder):
    """int, float, Decimal, or their spellings: "3.5", "-1e3", "1,234" (commas between thousands)."""

    type_name = "number"

    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        parsed = [_try(value) for value in values if not (isinstance(value, str) and _CODE.fullmatch(value.strip()))]
        numbers = [number for number in parsed if number is not None]
        share = len(numbers) / max(1, len(values))
        if share < 0.8:  # a few words among numbers are bad values, not another type
            return 0.0
        classes = len(numbers) >= 50 and len(set(numbers)) <= _FEW and all(n.is_integer() for n in numbers)
        return (0.6 if classes else 0.95) * share

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        numbers = _plain_numbers(values)
        if numbers is None:
            parsed = [_try(value) for value in values]
            numbers = np.array([number for number in parsed if number is not None], dtype=np.float64)
        if not len(numbers):
            return {"values": 0}
        low, quarter, half, three_quarters, high = np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]).tolist()
        return {
            "min": low,
            "25 %": quarter,
            "median": half,
            "75 %": three_quarters,
            "max": high,
            "mean": float(numbers.mean()),
            "distinct": len(np.unique(numbers)),
            "zeros": int((numbers == 0).sum()),
            "whole": bool((numbers == np.round(numbers)).all()),
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        """1, 1.0, "1" and "1.00" are equal."""
        if type(value) is int:
            return str(value)
        if type(value) is float:
            return str(int(value)) if value.is_integer() else repr(value)
        number = _try(value)
        if number is None:
            return str(value).strip()
        if isinstance(value, int):
            return str(value)
        return str(int(number)) if number.is_integer() else repr(number)

    def to_line(self, value: Any) -> float:
        return _number(value)

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        present = np.array([value is not None for value in values], dtype=bool)
        line = _plain_numbers([value for value in values if value is not None])
        if line is None or not len(line):
            return super().encode_all(values, bad)
        return Content({"value": self._standardised(line).astype(np.float32)}), present

    def from_line(self, position: float) -> float:
        return float(position)


def _plain_numbers(values: Sequence[Any]) -> np.ndarray | None:
    """All at once, float64 [n], where they are finite ints and floats; None where some are anything else."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _number(value: Any) -> float:
    """A finite float. Raises BadValueError naming what was found."""
    if isinstance(value, str):
        text = value.strip()
        if text.lstrip("+-").lower() in _NOT_FINITE:
            raise BadValueError(f"{value!r} is not a finite number")
        if _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")
        elif not _PLAIN.fullmatch(text):
            raise BadValueError(f"{value!r} is not a number")
        number = float(text)
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal | np.integer | np.floating):
        raise BadValueError(f"expected a number, found {value!r} ({type(value).__name__})")
    else:
        try:
            number = float(value)
        except OverflowError:
            raise BadValueError("a whole number above 1.8e308 cannot be held") from None
        except ValueError:  # Decimal's signalling NaN
            number = math.nan
    if not math.isfinite(number):
        raise BadValueError(f"{value!r} is not a finite number")
    return number


def _try(value: Any) -> float | None:
    try:
        return _number(value)
    except BadValueError:
        return None
