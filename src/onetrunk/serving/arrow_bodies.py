"""Tables as Arrow's stream, from strangers: only plain types, not compressed, checked before they are unpacked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from onetrunk.core.errors import DataError
from onetrunk.data.readers.arrow import from_batches
from onetrunk.data.table import Table
from onetrunk.serving.request_errors import bad
from onetrunk.serving.request_limits import Limits

STREAM = "application/vnd.apache.arrow.stream"
_PLAIN = (
    pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string,
    pa.types.is_binary, pa.types.is_large_binary, pa.types.is_temporal, pa.types.is_decimal,
)  # fmt: skip
_RECORD_BATCH = 3  # in the format's enumeration of message headers
_MOST_DEPTH = 8


def table_of(raw: bytes, limits: Limits) -> Table:
    """Raises RequestError for what is no such stream, or a larger one than is allowed."""
    try:
        _refuse_compressed(raw)
        with pa.ipc.open_stream(raw) as reader:
            for field in reader.schema:
                if not pa.types.is_null(field.type) and not _is_plain(field.type):
                    raise bad(f"The column {field.name!r} has the Arrow type {field.type}. Cast it to a plain one.")
            if len(reader.schema) > limits.columns:
                raise bad(f"{len(reader.schema):,} columns; at most {limits.columns:,} are read.")
            batches = _within_limits(reader, limits)
            return Table(dict(from_batches(batches, "the request", reader.schema.names)), "the request")
    except (pa.ArrowException, OSError, UnicodeDecodeError, struct.error, IndexError, DataError) as error:
        raise bad(f"The body is not a whole Arrow stream: {str(error)[:200]}.") from None


def _within_limits(reader: Any, limits: Limits) -> Iterator[pa.RecordBatch]:
    rows = size = 0
    for batch in reader:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows > limits.rows:
            raise bad(f"More than {limits.rows:,} rows; so many are answered at once. Send them in parts.")
        if size > limits.arrow_bytes:
            raise bad(f"The table is larger than {limits.arrow_bytes:,} bytes. Send it in parts.")
        yield batch


def _is_plain(kind: pa.DataType, depth: int = 0) -> bool:
    if depth < _MOST_DEPTH and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return _is_plain(kind.value_type, depth + 1)
    if depth < _MOST_DEPTH and pa.types.is_struct(kind) and kind.num_fields:
        return all(_is_plain(field.type, depth + 1) for field in kind)
    return any(check(kind) for check in _PLAIN)


def _refuse_compressed(raw: bytes) -> None:
    """A few bytes that are compressed can unpack to more than any memory holds, before anyone may look."""
    for message in pa.ipc.MessageReader.open_stream(raw):
        if _is_compressed(message.metadata.to_pybytes()):
            raise bad("The Arrow stream is compressed. Send it without compression.")


def _is_compressed(metadata: bytes) -> bool:
    """Of a message of the format (flatbuffers `Message` and `RecordBatch`): has its batch a compression?"""
    message = struct.unpack_from("<I", metadata, 0)[0]
    kind = _field(metadata, message, 1)
    header = _field(metadata, message, 2)
    if kind is None or header is None or metadata[kind] != _RECORD_BATCH:
        return False
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    return _field(metadata, batch, 3) is not None


def _field(data: bytes, table: int, index: int) -> int | None:
    """Where a field of a flatbuffer's table stands; None where it is not there."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0]
    return table + offset if offset else None


def stream_of(columns: dict[str, list[Any]]) -> bytes:
    """Columns as a stream. What is of several kinds is written as text."""
    arrays = {name: _array(values) for name, values in columns.items()}
    table = pa.table(arrays)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
