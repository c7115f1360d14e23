"""Parquet and Arrow files, and what else comes as Arrow's record batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from onetrunk.core.errors import DataError
from onetrunk.core.unpacking import Unpacked
from onetrunk.core.values import loaded
from onetrunk.data.readers.common import Columns, Notes, check_names, plain
from onetrunk.data.readers.parquet_pages import check_pages
from onetrunk.data.spool import ArrowValues, Decode, Spool

_ROWS = 4096  # read at once


def parquet(path: Path, notes: Notes) -> Columns:
    from pyarrow import parquet

    try:
        # Not read_table: it makes columns of folder names like a=1. A buffer would hold all of the file to its end.
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            check_names(file.schema_arrow.names, path)
            check_pages(path)
            return from_batches(file.iter_batches(_ROWS), path, file.schema_arrow.names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}") from None


def arrow(path: Path, notes: Notes) -> Columns:
    try:
        with pa.memory_map(str(path)) as file:
            opened = pa.ipc.open_file if file.read(6) == b"ARROW1" else pa.ipc.open_stream
            file.seek(0)
            reader = opened(file)
            return from_batches(_batches(reader), path, reader.schema.names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a whole Arrow file: {error}") from None


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(reader, "num_record_batches"):
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
    else:
        yield from reader


def from_batches(batches: Iterable[pa.RecordBatch], where: object, names: list[str]) -> Columns:
    """Columns of batches, which may be more than memory holds. DataError where two have one name, or a file's bytes do
    not hold together."""
    check_names(names, where)
    spool = Spool()
    unpacked = Unpacked(where.stat().st_size) if isinstance(where, Path) else None
    for batch in batches:
        batch.validate()  # or its size is asked of a dictionary that ends elsewhere
        if unpacked is not None and (bomb := unpacked.bomb(max(batch.nbytes, batch.num_rows * len(names)))) is not None:
            raise DataError(f"Cannot read {where}: {bomb}.")
        batch.validate(full=True)  # or one changed byte of a file is an access beyond its end
        for first in range(0, batch.num_rows, _ROWS):
            spool.append(_lasting(batch.slice(first, _ROWS)))
    return columns_of(spool, names, lambda name: PLAIN)


def _lasting(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without dictionaries, which would differ from batch to batch, and views, of which Arrow cannot take rows."""
    return pa.RecordBatch.from_arrays(list(map(_lasting_array, batch.columns)), batch.schema.names)


def _lasting_array(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        values = _lasting_array(array.dictionary)
        return pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    plain = _without_views(array.type)
    return array if plain == array.type else array.cast(plain)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _without_views(kind.value_type)
        return pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_views(field.type)) for field in kind])
    return kind


def columns_of(
    spool: Spool, names: list[str], decoder: Callable[[str], Decode], cells: Decode | None = None
) -> Columns:
    """The columns of what was spooled: in memory where it is small. `decoder(name)` makes a column's values, `cells`
    what stands in a text file."""
    in_memory, batches = spool.in_memory, spool.batches()
    columns: Columns = {}
    for i, name in enumerate(names):
        decode = decoder(name)
        arrays = [batch.column(i) for batch in batches]
        origin = None if spool.number is None else (spool.number, i)
        values = ArrowValues(arrays, [decode] * len(arrays), cells=None if decode is cells else cells, origin=origin)
        columns[name] = loaded(values) if in_memory else values
    return columns


_MADE_PLAIN = (pa.types.is_decimal, pa.types.is_time, pa.types.is_duration)  # other values come as they are to be


def present(array: pa.Array) -> pa.Array:
    """Where `python_values` are not None."""
    if pa.types.is_floating(array.type):
        return pc.and_(array.is_valid(), pc.fill_null(pc.invert(pc.is_nan(array)), False))
    return array.is_valid()


def python_values(array: pa.Array) -> list[Any]:
    """Plain values; None where missing."""
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    try:
        values = _moments(array) if _has_moments(array.type) else array.to_pylist()
    except (OverflowError, ValueError):  # moments before the year 1, or after 9999
        values = [_as_python(value) for value in array]
    if pa.types.is_map(array.type):
        return [None if v is None else dict(v) for v in values]
    if isinstance(array.type, pa.BaseExtensionType) or any(is_one(array.type) for is_one in _MADE_PLAIN):
        return [plain(v) for v in values]
    return values


def _has_moments(kind: pa.DataType) -> bool:
    """Days, and moments without a zone: NumPy makes them at once."""
    return pa.types.is_date32(kind) or (pa.types.is_timestamp(kind) and kind.tz is None)


def _moments(array: pa.Array) -> list[Any]:
    """Raises OverflowError where Python cannot hold one."""
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    if int in set(map(type, values)):
        raise OverflowError("a moment before the year 1, or after 9999")
    return values


def _as_python(value: pa.Scalar) -> Any:
    """What Python cannot hold, as text: it is then a bad value, and not another moment."""
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return str(value.cast(pa.string())) if pa.types.is_temporal(value.type) else f"not a {value.type}"


PLAIN = Decode(python_values, present, ("plain",))
