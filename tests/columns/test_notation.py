"""How numbers are written: decided on all values of a column, and then every spelling means one number."""

from __future__ import annotations

from typing import Any

import pytest

from onetrunk.columns.number.encoder import NumberEncoder
from onetrunk.columns.number.notation import Notation, conversion, parse
from onetrunk.core.errors import BadValueError, UsageError
from onetrunk.data.conventions import conventions, with_notation
from onetrunk.data.ledger import Ledger
from onetrunk.data.table import Table, infer_types, read


@pytest.mark.parametrize(
    ("text", "decimal", "number", "unit"),
    [
        ("1,234.5", ".", 1234.5, ""),
        ("1.234,5", ",", 1234.5, ""),
        ("1 234,5", ",", 1234.5, ""),
        ("1\u202f234\u202f567", ".", 1234567, ""),
        ("1'234.50", ".", 1234.5, ""),
        ("0,975", ",", 0.975, ""),
        ("-0,125", ",", -0.125, ""),
        ("−3", ".", -3, ""),
        ("70%", ".", 70, "%"),
        ("70 %", ".", 70, "%"),
        ('37"', ".", 37, '"'),
        ("1.5 lbs", ".", 1.5, "lbs"),
        ("$20", ".", 20, "$"),
        ("-$20.50", ".", -20.5, "$"),
        ("US$1,200", ".", 1200, "US$"),
        ("20 €", ",", 20, "€"),
        ("¥30", ".", 30, "¥"),
        ("USD 20", ".", 20, "USD"),
        ("1.2k", ".", 1200, ""),
        ("2万", ".", 20000, ""),
        ("3.5亿", ".", 3.5e8, ""),
        ("3,5 kg", ",", 3.5, "kg"),
        ("12 km/h", ".", 12, "km/h"),
        ("2.5千克", ".", 2.5, "千克"),
        ("6 fl oz", ".", 6, "fl oz"),
        ("$1.2M", ".", 1.2e6, "$"),
        ("5M", ".", 5, "M"),
    ],
)
def test_cells_are_numbers_with_units(text: str, decimal: Any, number: float, unit: str) -> None:
    cell = parse(text, decimal)
    assert cell is not None and (cell.number, cell.unit) == (pytest.approx(number), unit)


@pytest.mark.parametrize(
    "text",
    [
        *("0,975", "00,500", "1,23", "12,34,567", "1,234,56", "2024-01-02", "12:30", "1/2", "3-4", "A12", "$", "kg"),
        *("1.2.3", "--3", "-$-3", "$5 kg", "5 kg 3", "1 2", "+34 600 12", ""),
    ],
)
def test_what_is_no_number_with_a_decimal_point(text: str) -> None:
    assert parse(text, ".") is None


def test_units_of_one_kind_are_converted_and_no_others() -> None:
    assert conversion("g", "kg") == pytest.approx(0.001) and conversion("lbs", "lb") == conversion("years", "year") == 1
    assert conversion("ft", "inch") == 12 and conversion("kg", "m") is None and conversion("kg", "lb") is None
    notation = Notation(unit="kg")
    assert notation.number("500 g") == pytest.approx(0.5) and notation.number("2") == 2
    with pytest.raises(BadValueError, match=r"'3 m' has the unit 'm'; the column's numbers are in kg"):
        notation.number("3 m")
    with pytest.raises(BadValueError, match=r"'0,5' is not a number written with a decimal point, as this column is"):
        Notation().number("0,5")


def settled(**columns: list[Any]) -> tuple[dict[str, str], dict[str, dict[str, Any]], list[str]]:
    table = Table(columns)
    types = infer_types(table)
    return types, conventions(table, types, {}), table.notes


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        ([f"{i / 8:.3f}".replace(".", ",") for i in range(60)], {"decimal": ","}),
        ([f"{i}.{i:03},50" for i in range(1, 60)], {"decimal": ","}),
        ([f"{i}%" for i in range(46)] * 3, {"unit": "%"}),
        ([f"{30 + i}\"" for i in range(60)], {"unit": '"'}),
        ([f"{1 + i / 4} lbs" for i in range(60)], {"unit": "lbs"}),
        ([f"${i}" for i in range(60)], {"unit": "$"}),
        ([f"{i}k" for i in range(60)] + ["950", "1.5M"], {"short": True}),
        ([f"{i / 2:.1f} kg".replace(".", ",") for i in range(60)], {"decimal": ",", "unit": "kg"}),
        ([f"{i + 1}万" for i in range(60)], None),
        ([f"{500 + i} g" for i in range(20)] + [f"{1 + i / 10} kg" for i in range(40)], {"unit": "kg"}),
        ([f"{i} years" for i in range(2, 60)] + ["1 year"], {"unit": "years"}),
        ([f"{i + 1},{i:03}.5" for i in range(60)], None),
        ([f"{i / 8}" for i in range(60)], None),
    ],
)  # fmt: skip
def test_a_column_is_written_in_one_way_that_its_values_tell(cells: list[str], options: dict[str, Any] | None) -> None:
    types, result, notes = settled(x=cells)
    assert types == {"x": "number"} and result.get("x") == options
    assert (options is None) == (not notes)
    encoder = NumberEncoder(options or {})
    encoder.fit(cells)
    ledger = Ledger()
    content, present = encoder.encode_all(cells, lambda i, reason: ledger.add(reason, "x", i, bad=True))
    assert present.all() and not ledger.lines() and len(content) == len(cells)


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i} kg" for i in range(30)] + [f"{i} m" for i in range(30)],  # two kinds
        [f"{i} kg" for i in range(30)] + [f"{i * 500}" for i in range(30)] + [f"{i} g" for i in range(30)],  # bare ones
        ["10A", "10B", "12A", "12C", "7A", "9D"] * 10,
        ["008.45", "250.00", "038.9", "V45"] * 10,
        ["3.1", "3.10", "3.9", "3.90"] * 15,
        ["1E5", "10E4", "2E3", "3E1"] * 15,
        [str(89860000000000000000 + i % 12) for i in range(60)],
        ["02139", "94110", "10001"] * 10,
    ],
)
def test_what_has_several_units_or_would_lose_something_is_no_number(cells: list[str]) -> None:
    types, result, _ = settled(x=cells)
    assert types["x"] != "number" and result == {}


def test_a_sign_between_thousands_that_may_be_a_decimal_comma_is_told() -> None:
    ambiguous = [f"1,{100 + 7 * i}" for i in range(60)]
    _, result, notes = settled(x=ambiguous)
    assert result["x"] == {} and len(notes) == 1
    assert "'1,100' was read as 1100; if it means 1.1, the type is number:comma (--types)" in notes[0]
    clear = [f"{i},5" for i in range(60)]
    _, result, _ = settled(x=ambiguous, y=clear)  # another column of the table tells
    assert result == {"x": {"decimal": ","}, "y": {"decimal": ","}}
    assert with_notation("number:comma") == ("number", {"decimal": ","})


def test_decimal_commas_hold_for_the_whole_file(tmp_path: Any) -> None:
    """1.234 is a thousand and more where the column beside it says 0,5."""
    path = tmp_path / "a.csv"
    path.write_text("size;price\n" + "".join(f"{i}.{i:03};{i},5\n" for i in range(1, 60)), encoding="utf-8")
    table = read(path)
    types = infer_types(table)
    assert conventions(table, types, {}) == {"size": {"decimal": ","}, "price": {"decimal": ","}}
    assert any("separated by semicolons (;)" in note for note in table.notes)
    (tmp_path / "b.csv").write_text("size,price\n" + "".join(f'{i}.{i:03},"{i},5"\n' for i in range(1, 60)))
    table = read(tmp_path / "b.csv")
    assert conventions(table, infer_types(table), {}) == {"size": {"decimal": ","}, "price": {"decimal": ","}}


def test_notations_are_said_by_name_and_unknown_ones_refused() -> None:
    assert with_notation("date:mdy") == ("date", {"order": "mdy"}) and with_notation("text") == ("text", {})
    with pytest.raises(UsageError, match=r"'date:dmyy'.*Did you mean 'dmy'"):
        with_notation("date:dmyy")
    with pytest.raises(UsageError, match=r"'text:big'.*no notation 'big'"):
        with_notation("text:big")
