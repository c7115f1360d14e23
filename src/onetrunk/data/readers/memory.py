"""Tables that a program holds: rows, columns, a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onetrunk.core.errors import DataError
from onetrunk.data.readers.common import Columns, check_names, plain


def from_records(records: Iterable[dict[str, Any]]) -> Columns:
    """A list of rows; a row that lacks a column lacks its value."""
    records = list(records)
    names = dict.fromkeys(str(name) for record in records for name in record)
    return {name: [plain(record.get(name)) for record in records] for name in names}


def from_mapping(mapping: dict[str, Iterable[Any]]) -> Columns:
    """A dict of columns, all equally long."""
    columns: Columns = {str(name): [plain(v) for v in values] for name, values in mapping.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"All columns must have the same number of rows; found {lengths}.")
    return columns


def from_frame(frame: Any) -> Columns:
    """A pandas DataFrame; its index is not data."""
    names = [str(name) for name in frame.columns]
    check_names(names, "the DataFrame")
    return {name: [plain(v) for v in frame.iloc[:, i].tolist()] for i, name in enumerate(names)}
