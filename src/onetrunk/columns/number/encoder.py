"""Numbers and their spellings: "3.5", "-1e3", "1,234", "3,5 kg", "70%", "$1.2k", "2万"."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal

import numpy as np

from onetrunk.columns.families.scalar.encoder import ScalarEncoder
from onetrunk.columns.number.notation import Notation, decide
from onetrunk.core.content import Content
from onetrunk.core.encoder import Convention, EqualAsNumbers
from onetrunk.core.errors import BadValueError
from onetrunk.core.values import blocks, some_are
from onetrunk.data.readers.cells import are_codes

_ENOUGH = 0.8  # share of values that are numbers, for a column to be recognised
_DIGIT = re.compile(r"\d")  # is in every one
_FEW = 10  # as many whole numbers or fewer look like classes
_EXACT = 1 << 53  # whole numbers beyond are not all floats
_MAX_SPELLINGS = 50_000  # different ones by which a column's notation is known
_PLAIN = Notation()


class NumberEncoder(ScalarEncoder, EqualAsNumbers):
    """int, float, Decimal, or their spellings, in the column's notation: "3.5", "-1e3", "1,234"; with the option
    `decimal` "3,5"; with `unit` "3.5 kg"."""

    type_name = "number"
    notations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"comma": {"decimal": ","}, "point": {"decimal": "."}}

    class Options(ScalarEncoder.Options):
        decimal: Literal[".", ","] = "."  # what stands before the decimals
        unit: str = ""  # what stands before or after every number, like kg, % or $
        short: bool = False  # k, M and B stand for thousands, millions and billions

    options: Options

    @property
    def own_notation(self) -> Notation:
        return Notation(self.options.decimal, self.options.unit, self.options.short)

    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        notation = _PLAIN
        if some_are(values, str):
            texts = Counter(value.strip() for value in values if isinstance(value, str))
            possible = len(values) - sum(n for text, n in texts.items() if not _DIGIT.search(text))
            if possible / len(values) < _ENOUGH:
                return 0.0
            if are_codes(texts, len(values)):
                return 0.0
            decision = decide(texts, {})
            notation = _PLAIN if decision is None else decision.notation
        plain = _plain_numbers(values)
        if plain is not None and (np.abs(plain) < _EXACT).all():
            numbers = plain.tolist()
        else:
            # Each text once, for classes repeat.
            counts = Counter(value for value in values if isinstance(value, str))
            others = [(v, 1) for v in values if not isinstance(v, str) and not (isinstance(v, int) and abs(v) > _EXACT)]
            parsed = [(_try(value, notation), n) for value, n in [*counts.items(), *others]]
            numbers = [number for number, n in parsed if number is not None for _ in range(n)]
        share = len(numbers) / max(1, len(values))
        if share < _ENOUGH:  # a few words among numbers are bad values, not another type
            return 0.0
        classes = len(numbers) >= 50 and len(set(numbers)) <= _FEW
        classes = classes and (notation != _PLAIN or all(n.is_integer() for n in numbers))
        return (0.6 if classes else 0.95) * share

    @classmethod
    def convention(cls, values: Sequence[Any], likely: Mapping[str, Any]) -> Convention | None:
        counts: Counter[str] = Counter()
        for block in blocks(values):
            counts.update(value.strip() for value in block if isinstance(value, str))
        if len(counts) > _MAX_SPELLINGS:
            step = len(counts) // _MAX_SPELLINGS + 1
            counts = Counter(dict(list(counts.items())[::step]))
        decision = decide(counts, likely) if counts else None
        if decision is None or (decision.notation == _PLAIN and decision.sure):
            return None
        notation, example = decision.notation, decision.example
        message: list[str] = []
        options: dict[str, Any] = {}
        if notation.decimal == ",":
            options["decimal"] = ","
            message.append(f"numbers have a decimal comma, like {example!r}")
        if notation.short:
            options["short"] = True
            message.append("k, M and B stand for thousands, millions and billions")
        if notation.unit:
            options["unit"] = notation.unit
            message.append(f"numbers are in {notation.unit}")
        if not decision.sure:
            number, other = notation.number(example), Notation(",", notation.unit, notation.short).number(example)
            message.append(
                f"{example!r} was read as {number:g}; if it means {other:g}, the type is number:comma (--types)"
            )
        return Convention(options, "; ".join(message), decision.sure)

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
        return _number(value, self.own_notation)

    def to_lines(self, values: Sequence[Any]) -> tuple[np.ndarray, str]:
        plain = _plain_numbers(values)
        return super().to_lines(values) if plain is None or not len(plain) else (plain, "")

    @property
    def unit(self) -> str:
        return self.options.unit

    @property
    def reads_cells(self) -> bool:
        """Of a column with decimal commas: 1.234 looks like another number."""
        return self.options.decimal == ","

    def plain(self, values: list[Any]) -> list[Any]:
        if not some_are(values, str):
            return values
        notation = self.own_notation
        numbers = [_try(value, notation) if isinstance(value, str) else None for value in values]
        return [v if number is None else number for v, number in zip(values, numbers, strict=True)]

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        present = np.array([value is not None for value in values], dtype=bool)
        line = _plain_numbers([value for value in values if value is not None])
        if line is None or not len(line):
            return super().encode_all(values, bad)
        return Content({"value": self._standardised(line).astype(np.float32)}), present

    def loses_nothing(self, values: Sequence[Any]) -> bool:
        """Finite ints and floats are what they look like."""
        return self.own_notation == _PLAIN and bool(values) and _plain_numbers(values) is not None

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


def _number(value: Any, notation: Notation) -> float:
    """A finite float. Raises BadValueError naming what was found."""
    if isinstance(value, str):
        return notation.number(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | np.integer | np.floating):
        raise BadValueError(f"expected a number, found {value!r} ({type(value).__name__})")
    try:
        number = float(value)
    except OverflowError:
        raise BadValueError("a whole number above 1.8e308 cannot be held") from None
    except ValueError:  # Decimal's signalling NaN
        number = math.nan
    if not math.isfinite(number):
        raise BadValueError(f"{value!r} is not a finite number")
    return number


def _try(value: Any, notation: Notation = _PLAIN) -> float | None:
    try:
        return _number(value, notation)
    except BadValueError:
        return None
