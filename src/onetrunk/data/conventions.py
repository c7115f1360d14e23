"""How the columns of a table are written: decided on all of their values, before anything is learnt from some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onetrunk.core.encoder import Convention, Encoder
from onetrunk.core.errors import UsageError, nearest
from onetrunk.core.registry import column_types
from onetrunk.core.values import Values, of_present, sample_present, some_are, written
from onetrunk.data.table import Table

Options = dict[str, dict[str, Any]]


def with_notation(spec: str) -> tuple[str, dict[str, Any]]:
    """`date:dmy` as a type and its options. Raises UsageError that names the nearest notation."""
    kind, _, name = spec.partition(":")
    encoder = column_types.get(kind).encoder
    options = encoder.notation(name) if name else {}
    if options is None:
        known = nearest(name, encoder.notations) if encoder.notations else " It has none."
        raise UsageError(f"{spec!r}: the type {kind} has no notation {name!r}.{known}")
    return kind, dict(options)


def conventions(table: Table, types: Mapping[str, str], options: Mapping[str, Mapping[str, Any]]) -> Options:
    """The options of every column, with what its values say of how they are written, where nobody said it; the table's
    notes tell of it.

    Columns that can be read in two ways are read as others of their type in the table are, which say it.
    """
    out = {name: dict(own) for name, own in options.items()}
    for kind in dict.fromkeys(types.values()):
        encoder = column_types.get(kind).encoder
        if encoder.convention.__func__ is Encoder.convention.__func__:  # type: ignore[attr-defined]
            continue
        names = [name for name, its in types.items() if its == kind]
        conventions_of = {name: _of_column(encoder, table, name, {}) for name in names}
        likely: dict[str, Any] = {}
        for name in names:
            convention = conventions_of[name]
            likely = (convention.options if convention and convention.sure else {}) | likely
            likely |= {key: value for key, value in out.get(name, {}).items() if value is not None}
        for name in names:
            convention, own_options = conventions_of[name], out.get(name, {})
            if likely and (convention is None or not convention.sure):
                convention = _of_column(encoder, table, name, likely) or convention
            if convention is None or (own_options and convention.options.keys() <= own_options.keys()):
                continue
            out[name] = convention.options | own_options
            if (note := f"{name}: {convention.message}.") not in table.notes:
                table.notes.append(note)
    return out


def _of_column(encoder: type[Encoder], table: Table, name: str, likely: Mapping[str, Any]) -> Convention | None:
    values = table[name]
    if likely and some_are(sample_present(values), float):
        values = written(values)  # 1.234 looks like a number, also where it is one thousand
    if not some_are(sample_present(values) if isinstance(values, Values) else values, str):
        return None
    return encoder.convention(of_present(values), likely)
