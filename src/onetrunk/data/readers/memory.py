"""Tables that a program holds: rows, columns, a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from onetrunk.core.errors import DataError, UsageError
from onetrunk.data.readers.arrow import from_batches
from onetrunk.data.readers.common import Columns, check_names, plain


def from_records(records: Iterable[dict[str, Any]]) -> Columns:
    """A list of rows; a row that lacks a column lacks its value."""
    records = list(records)
    names = dict.fromkeys(str(name) for record in records for name in record)
    return {name: [plain(record.get(name)) for record in records] for name in names}


def from_mapping(mapping: dict[str, Iterable[Any]]) -> Columns:
    """A dict of columns, all equally long."""
    for name, values in mapping.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise UsageError(
                f"The column {str(name)!r} is {values!r:.100}: expected a list of values. A table of one row is a list "
                f"of one row: [{{{str(name)!r}: ...}}]."
            )
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


def from_stream(source: Any) -> Columns:
    """What gives its rows as Arrow's stream (`__arrow_c_stream__`): tables of pyarrow, polars, DuckDB and others."""
    try:
        reader = pa.RecordBatchReader.from_stream(source)
        return from_batches(reader, f"the {type(source).__name__}", reader.schema.names)
    except pa.ArrowException as error:
        raise DataError(f"The {type(source).__name__} is not a table: {error}.") from None


def from_array(array: np.ndarray) -> Columns:
    """A structured array by its fields; one of two axes by its columns, called 0, 1, ... as pandas calls them."""
    if array.dtype.names:
        return from_mapping({name: array[name] for name in array.dtype.names})
    if array.ndim != 2:
        raise UsageError(
            f"An array of shape {list(array.shape)} is no table: expected [rows, columns], or fields. "
            'Name what is in it: {"image": pictures, "label": labels}.'
        )
    return from_mapping({str(i): array[:, i] for i in range(array.shape[1])})
