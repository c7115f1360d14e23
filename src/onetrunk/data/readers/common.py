"""What all readers share: names, suffixes, plain values, columns one under the other.

A reader returns `{name: values}`, None where missing, and appends to `notes` what a person should know. Values are a
list, or made as they are looked at (`core.values`) where the file is large.
"""

from __future__ import annotations

import datetime
import decimal
import mimetypes
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.values import Cells, Mapped, Repeated, Values, blocks, chain, written

Columns = dict[str, Sequence[Any]]


@dataclass(frozen=True)
class ReadOptions:
    """What a person says of how files are written; None: what they look like."""

    missing: tuple[str, ...] | None = None  # words that stand for a missing value, also in quotation marks
    separator: str | None = None  # between the cells of CSV and TSV files

    def __post_init__(self) -> None:
        if self.separator is not None:
            object.__setattr__(self, "separator", separator_of(self.separator))


def separator_of(told: str) -> str:
    """A sign between cells as a person or a file names it. Raises UsageError for what cannot be one."""
    sign = {"\\t": "\t", "tab": "\t"}.get(told, told)
    if len(sign) != 1 or not sign.isascii() or sign in '"\r\n\0':
        raise UsageError(f"--separator expects one sign of ASCII, like ; or | or tab; found {told[:20]!r}.")
    return sign


DEFAULT = ReadOptions()


Notes = list[str]

_NESTED = (str, list, tuple, dict)
_MEDIA = mimetypes.MimeTypes()
for _suffix, _kind in {
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mkv": "video/matroska",
}.items():
    _MEDIA.add_type(_kind, _suffix)


TABLE_METADATA = "-metadata.json"  # after a table's name: what is said of it (CSVW of the W3C)
LONGEST_NAME = 500  # characters of a text that may name a file
_FEW = 100_000  # rows
_HALF = re.compile("[\ud800-\udfff]")  # of a pair of code units that are one character only together


def suffix_of(path: Path) -> str:
    """In lower case; `.csv` for `x.csv.gz`."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        inner = Path(path.stem).suffix.lower()
        return inner if inner in (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt") else suffix
    return suffix


def check_names(names: list[str], where: object) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"Column names must differ; in {where} these appear more than once: {', '.join(twice)}.")


def header_names(cells: list[str]) -> list[str]:
    """Column names out of a header's cells; one that is empty has its number for a name."""
    return [cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells)]


def media(path: Path) -> str | None:
    """What a file holds, by its name: the first word of its MIME type, which also names the column."""
    kind = _MEDIA.guess_type(path.name, strict=False)[0]
    return kind.partition("/")[0] if kind else None


def as_files(values: Sequence[Any], folder: Path) -> Sequence[Any]:
    """Paths, where strings name files beside the table: one kind of media, most of them there."""
    first = next((v for v in values if v is not None), None)
    if not isinstance(first, str) or (kind := media(Path(first))) is None:
        return values
    present = there = 0
    for block in blocks(values):
        names = [v for v in block if v is not None]
        if not all(_names_file(v, kind) for v in names):
            return values
        present += len(names)
        there += sum(os.path.isfile(folder / v) for v in names)  # also of names longer than files may have
    if there <= present / 2:
        return values
    paths = Files(values, folder)
    return paths if isinstance(values, Values) else list(paths)


class Files(Mapped):
    """The paths of files in a folder, of which `names` are the names."""

    def __init__(self, names: Sequence[Any], folder: Path) -> None:
        super().__init__(names, lambda block: [None if v is None else folder / v for v in block])
        self.names, self.folder = names, folder


def _names_file(value: Any, kind: str) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and "\n" not in value and media(Path(value)) == kind


def without_words(values: Sequence[Any], words: Sequence[str]) -> Sequence[Any]:
    """The values, None where they are one of these words."""
    if isinstance(values, Values):
        return Mapped(values, lambda block: [None if isinstance(v, str) and v in words else v for v in block])
    if isinstance(values, Cells) or not any(isinstance(v, str) and v in words for v in values):
        return values
    return [None if isinstance(v, str) and v in words else v for v in values]


def join(tables: list[Columns]) -> Columns:
    """One under the other; a column that one of them lacks is missing there."""
    names = dict.fromkeys(name for columns in tables for name in columns)
    return {
        name: chain(_of_one_kind([columns.get(name, missing(rows(columns))) for columns in tables])) for name in names
    }


def _of_one_kind(columns: list[Sequence[Any]]) -> list[Sequence[Any]]:
    """As their cells are written, where one text file's column is text and another's is not: as if they were one."""
    firsts = [next((v for v in column if v is not None), None) for column in columns]
    texts = {isinstance(first, str) for first in firsts if first is not None}
    if len(texts) < 2:
        return columns
    return [list(column.written) if isinstance(column, Cells) else written(column) for column in columns]


def missing(n: int) -> Sequence[Any]:
    """A column without values."""
    return [None] * n if n <= _FEW else Repeated(None, n)


def rows(columns: Columns) -> int:
    return len(next(iter(columns.values()), []))


def plain(value: Any) -> Any:
    """A plain Python value: NaN, NaT and NA become None, NumPy and pandas scalars their Python twins."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float | decimal.Decimal):
        return None if value != value else float(value)
    if isinstance(value, datetime.datetime):
        if value != value:  # pandas.NaT
            return None
        return value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else value
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.time):
        return value.isoformat()
    return None if type(value).__name__ == "NAType" else value


def unicode_only(columns: Columns, notes: Notes) -> Columns:
    """Columns in memory whose text is Unicode's: half of a surrogate pair, which JSON and Python can hold and UTF-8
    cannot, becomes U+FFFD, and the note says in how many cells."""
    whole, cells = dict(columns), 0
    for name, values in columns.items():
        if isinstance(values, list) and _have_half(values):
            cells += sum(map(_has_half, values))
            whole[name] = [_without_halves(v) if _has_half(v) else v for v in values]
    if any(map(_has_half, columns)):
        whole = {_without_halves(name): values for name, values in whole.items()}
        check_names(list(map(_without_halves, columns)), "the table")
    _tell_halves(cells, notes)
    return whole


def unicode_rows(records: Iterable[dict[str, Any]], notes: Notes) -> Iterator[dict[str, Any]]:
    """As `unicode_only`, of rows one after the other; the note comes after the last one."""
    cells = 0
    for record in records:
        if _has_half(record):
            cells += sum(map(_has_half, record.values()))
            record = _without_halves(record)
        yield record
    _tell_halves(cells, notes)


def _tell_halves(cells: int, notes: Notes) -> None:
    if cells:
        notes.append(
            f"{cells:,} cells hold half of a surrogate pair, which is no character: it was replaced by \ufffd."
        )


def _have_half(values: list[Any]) -> bool:
    """Does any of them hold one? Most columns hold nothing, or nothing but ASCII, in which one could be."""
    kinds = {kind for kind in set(map(type, values)) if issubclass(kind, _NESTED)}
    if not kinds or (set(map(type, values)) <= {str, type(None)} and all(map(str.isascii, filter(None, values)))):
        return False
    return any(map(_has_half, values))


def _has_half(value: Any) -> bool:
    if isinstance(value, str):
        return not value.isascii() and _HALF.search(value) is not None
    if isinstance(value, dict):
        return any(map(_has_half, value)) or any(map(_has_half, value.values()))
    return (
        isinstance(value, list | tuple) and isinstance(next(iter(value), None), _NESTED) and any(map(_has_half, value))
    )


def _without_halves(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(v) for key, v in value.items()}
    return [_without_halves(v) for v in value] if isinstance(value, list | tuple) else value
