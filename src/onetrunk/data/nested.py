"""Cells that hold objects: {"customer": {"plan": "pro"}} is the column customer.plan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from onetrunk.core.errors import DataError
from onetrunk.core.registry import column_types
from onetrunk.core.values import Mapped, Values, blocks, sample_present
from onetrunk.data.table import Table

_MOST_KEYS = 1000  # of one column; more are no columns but values
_MOST_DEPTH = 8


def unnested(table: Table, kept: Collection[str] = ()) -> Table:
    """The table, with a column for each key of the objects in its cells, and of those within them. A column stays as it
    is where it is among those `kept`, where other values stand in it too, and where a column type knows such objects (a
    distribution over classes, the steps of a trace). Raises DataError where a key would have another column's name."""

    def opens(name: str, values: Sequence[Any]) -> bool:
        if name in kept or not _holds_objects(values):
            return False
        sample = sample_present(values)
        return all(column_types.get(kind).encoder.recognise(sample) <= 0 for kind in column_types.names())

    return _opened(table, opens)


def unnested_for(table: Table, known: Collection[str]) -> Table:
    """The table, with those keys as columns that a model knows by their path."""
    inside = {name[:i] for name in known for i, sign in enumerate(name) if sign == "."}

    def opens(name: str, values: Sequence[Any]) -> bool:
        return name in inside and name not in known and _holds_objects(values)

    return _opened(table, opens)


def _opened(table: Table, opens: Any) -> Table:
    for _ in range(_MOST_DEPTH):
        chosen = [name for name, values in table.columns.items() if opens(name, values)]
        if not chosen:
            return table
        columns: dict[str, Sequence[Any]] = {}
        notes = list(table.notes)
        for name, values in table.columns.items():
            inner = {f"{name}.{key}": _of_key(values, key) for key in _keys(values, name)} if name in chosen else {}
            if twice := [each for each in inner if each in table.columns or each in columns]:
                raise DataError(
                    f"The objects in the column {name!r} hold a key that would be the column {twice[0]!r}, and there "
                    "is one of that name: rename it."
                )
            if inner:
                shown = ", ".join(list(inner)[:5]) + (", ..." if len(inner) > 5 else "")
                notes.append(f"{name} holds objects, whose keys are columns: {shown}.")
            columns |= inner or {name: values}
        table = Table(columns, table.source, table.row, notes, table.tables)
    return table


def _holds_objects(values: Sequence[Any]) -> bool:
    """Are its present values objects, all of them, with keys?"""
    if not isinstance(next(iter(sample_present(values)), None), dict):
        return False
    present = (v for block in blocks(values) for v in block if v is not None)
    return all(isinstance(v, dict) for v in present) and any(v for block in blocks(values) for v in block)


def _keys(values: Sequence[Any], name: str) -> list[str]:
    """All keys, in the order in which they come."""
    keys: dict[str, None] = {}
    for block in blocks(values):
        for value in block:
            keys |= dict.fromkeys(map(str, value or {}))
        if len(keys) > _MOST_KEYS:
            raise DataError(
                f"The objects in the column {name!r} have more than {_MOST_KEYS:,} different keys, which are no "
                "columns then: leave it out with --ignore, or make columns of what you need."
            )
    return list(keys)


def _of_key(values: Sequence[Any], key: str) -> Sequence[Any]:
    def taken(block: list[Any]) -> list[Any]:
        return [None if value is None else _get(value, key) for value in block]

    return Mapped(values, taken) if isinstance(values, Values) else taken(list(values))


def _get(value: dict[Any, Any], key: str) -> Any:
    return value[key] if key in value else next((v for k, v in value.items() if str(k) == key), None)
