"""What the pages of a Parquet file say of their own sizes, before memory is taken for them: Arrow believes each."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetrunk.core.errors import DataError
from onetrunk.core.unpacking import Unpacked

_UNPACKED, _PACKED, _DICTIONARY = 2, 3, 7  # numbers of a page header's fields
_GROUPS, _COLUMNS, _COLUMN, _BYTES, _DATA, _FIRST = 4, 1, 3, 7, 9, 11  # and of the footer's, from the outside in
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12  # of Thrift's compact form
_INTEGERS = (4, 5, 6)
_DEEPEST = 12  # structs in one another


@dataclass(frozen=True)
class _Page:
    unpacked: int  # bytes
    values: int  # of a dictionary; 0: it is none


def check_pages(path: Path) -> None:
    """Raises DataError where pages claim more than useful data unpacks to, or a dictionary more values than it has
    bytes. What is no page at all is left to Arrow, which is not asked where pages are: it ends the process where a
    column's statistics are not of its kind."""
    counted = Unpacked(path.stat().st_size)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            chunks = list(_chunks(data))
        except (IndexError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a whole Parquet file: its footer cannot be read ({error}).") from None
        for first, end in chunks:
            for page in _pages(data, first, end):
                if (bomb := counted.bomb(max(0, page.unpacked))) is not None:
                    raise DataError(f"Cannot read {path}: {bomb}.")
                if page.values > page.unpacked:
                    raise DataError(
                        f"{path} is not a whole Parquet file: one of its dictionaries claims {page.values:,} "
                        f"values in {page.unpacked:,} bytes. Write it anew, or get it again."
                    )


def _chunks(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where each column of each row group begins and ends."""
    footer, _ = _struct(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    for group in _list(footer, _GROUPS):
        for column in _list(group, _COLUMNS):
            told = column[_COLUMN] if isinstance(column, dict) else None
            first = _number(told, _DATA)
            if isinstance(told, dict) and _FIRST in told:
                first = min(first, _number(told, _FIRST))
            yield first, min(first + _number(told, _BYTES), len(data))


def _pages(data: mmap.mmap, first: int, end: int) -> Iterator[_Page]:
    """Of one column in one row group, as far as they can be read."""
    place = first
    while 0 <= place < end:
        try:
            header, place = _struct(data, place)
            packed, unpacked = _number(header, _PACKED), _number(header, _UNPACKED)
            values = _number(header[_DICTIONARY], 1) if _DICTIONARY in header else 0
        except (IndexError, KeyError, ValueError):
            return
        if packed < 0:
            return
        yield _Page(unpacked, values)
        place += packed


def _number(fields: Any, field: int) -> int:
    """One of a struct. ValueError where it is something else."""
    found = fields[field] if isinstance(fields, dict) else None
    if not isinstance(found, int):
        raise ValueError(f"the field {field} of a page header is no number")
    return found


def _list(fields: Any, field: int) -> list[Any]:
    """As `_number`, of a list."""
    found = fields[field] if isinstance(fields, dict) else None
    if not isinstance(found, list):
        raise ValueError(f"the field {field} is no list")
    return found


def _struct(data: mmap.mmap, place: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Its integers, lists and structs by their fields' numbers, and where it ends. IndexError beyond the file's end,
    ValueError for what is none."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    out: dict[int, Any] = {}
    number = 0
    while (head := data[place]) != 0:
        place += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, place = _integer(data, place)
        out[number], place = _value(data, place, kind, depth)
    return out, place + 1


def _value(data: mmap.mmap, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return None, place
    if kind == _BYTE:
        return None, place + 1
    if kind in _INTEGERS:
        return _integer(data, place)
    if kind == _DOUBLE:
        return None, place + 8
    if kind == _BINARY:
        size, place = _varint(data, place)
        return None, place + size
    if kind == _STRUCT:
        return _struct(data, place, depth + 1)
    if kind in (_LIST, _SET):
        return _values(data, place, depth + 1)
    raise ValueError(f"there are no values of type {kind}")


def _values(data: mmap.mmap, place: int, depth: int) -> tuple[list[Any], int]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    count, kind = data[place] >> 4, data[place] & 15
    place += 1
    if count == 15:
        count, place = _varint(data, place)
    if count > len(data) - place:  # each takes a byte at least
        raise ValueError(f"a list claims {count:,} values")
    out = []
    for _ in range(count):
        value, place = _value(data, place, _BYTE if kind in (_TRUE, _FALSE) else kind, depth)
        out.append(value)
    return out, place


def _integer(data: mmap.mmap, place: int) -> tuple[int, int]:
    n, place = _varint(data, place)
    return (n >> 1) ^ -(n & 1), place


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    n = 0
    for i in range(10):
        n |= (data[place] & 127) << (7 * i)
        place += 1
        if data[place - 1] < 128:
            return n, place
    raise ValueError("a number without an end")
