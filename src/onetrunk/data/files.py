"""One file to columns of plain Python values: CSV, TSV, JSON, Parquet, Arrow, text.

A reader returns `{name: list of values}` with None where missing, and appends to `notes` what a person should
know. Files are data, never code: nothing is unpickled.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import mimetypes
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from onetrunk.core.errors import DataError

Columns = dict[str, list[Any]]
Notes = list[str]

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")
_BLOCK_BYTES = 64 << 20  # a row must fit in one block of pyarrow's CSV reader
_MEDIA = mimetypes.MimeTypes()
for _suffix, _kind in {
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mkv": "video/matroska",
}.items():
    _MEDIA.add_type(_kind, _suffix)


def suffix_of(path: Path) -> str:
    """In lower case; `.csv` for `x.csv.gz`."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        inner = Path(path.stem).suffix.lower()
        return inner if inner in (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt") else suffix
    return suffix


def read_text(path: Path, notes: Notes) -> str:
    """The whole file as text: UTF-8 (with or without a mark), UTF-16 with its mark, or Chinese GB 18030."""
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    if not data.strip():
        raise DataError(f"{path} is empty: expected a header and rows, found {len(data)} bytes.")
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            notes.append(f"{path.name} is UTF-16.")
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        offset = error.start
    text = _chinese(data)
    if text is None:
        line = data.count(b"\n", 0, offset) + 1
        raise DataError(
            f"{path} is not UTF-8: byte 0x{data[offset]:02x} at offset {offset:,} (line {line:,}). "
            "Save it as UTF-8, or convert it: iconv -f ENCODING -t UTF-8."
        )
    notes.append(f"{path.name} is not UTF-8 (byte offset {offset:,}); it was read as Chinese GB 18030.")
    return text


def _chinese(data: bytes) -> str | None:
    """GB 18030, if that gives everyday Chinese: other encodings decode by accident, into rare characters."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return None
    foreign = [c for c in text if ord(c) > 127]
    usual = sum(
        1 for c in foreign if "\u4e00" <= c <= "\u9fff" or "\u3000" <= c <= "\u303f" or "\uff00" <= c <= "\uffef"
    )
    everyday = len("".join(foreign).encode("gb2312", "ignore")) // 2
    return text if usual >= 0.9 * len(foreign) and everyday >= 0.9 * len(foreign) else None


def check_names(names: list[str], where: object) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"Column names must differ; in {where} these appear more than once: {', '.join(twice)}.")


def _delimited(delimiter: str) -> Callable[[Path, Notes], Columns]:
    def read(path: Path, notes: Notes) -> Columns:
        text = read_text(path, notes)
        names = [
            name.strip() for name in next(row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row)
        ]
        names = [name or f"column {i + 1}" for i, name in enumerate(names)]
        check_names(names, path)
        return _arrow_csv(path, text, names, delimiter, notes)

    return read


def _arrow_csv(path: Path, text: str, names: list[str], delimiter: str, notes: Notes) -> Columns:
    from pyarrow import csv as arrow_csv

    data = text.encode()

    def parse(quote: str | bool, as_text: list[str] | None = None) -> pa.Table:
        return arrow_csv.read_csv(
            io.BytesIO(data),
            # With threads, a process that exits soon after is sometimes aborted by its idle pool.
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=min(len(data) + 1, _BLOCK_BYTES)),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, quote_char=quote, newlines_in_values=bool(quote)),
            convert_options=arrow_csv.ConvertOptions(
                null_values=list(MISSING),
                strings_can_be_null=True,
                column_types={name: pa.string() for name in as_text or []},
            ),
        )

    quote: str | bool = '"'
    try:
        table = parse(quote)
    except pa.ArrowInvalid as error:
        table, failed = None, str(error)
    if delimiter == "\t" and '"' in text:
        # Most TSV files quote nothing: a stray quote then fails, or silently swallows lines up to another.
        try:
            unquoted = parse(False)
        except pa.ArrowInvalid:
            unquoted = None
        if unquoted is not None and (table is None or unquoted.num_rows > table.num_rows):
            table, quote = unquoted, False
            notes.append(f"{path.name}: quotation marks were read as ordinary characters.")
    if table is None:
        raise DataError(_ragged(path, text, delimiter, len(names)) or f"Cannot read {path}: {failed}.")
    whole = [f.name for f in table.schema if pa.types.is_integer(f.type)]
    if whole and re.search(r'(?:^|[\t\n,"])0\d', text):  # 007 and 000001 are codes, not the numbers 7 and 1
        raw = parse(quote, as_text=whole)
        for i, field in enumerate(table.schema):
            if field.name in whole and any(re.match(r"0\d", v) for v in raw.column(i).to_pylist() if v is not None):
                table = table.set_column(i, field.name, raw.column(i))
    return from_arrow(table.rename_columns(names), path)


def _ragged(path: Path, text: str, delimiter: str, width: int) -> str | None:
    bad = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for row in reader:
            if row and len(row) != width:
                bad.append((reader.line_num, len(row)))
    except csv.Error:
        return None
    if not bad:
        return None
    shown = "; ".join(f"line {line} has {found}" for line, found in bad[:5])
    more = f"; and {len(bad) - 5:,} more" if len(bad) > 5 else ""
    return (
        f"Every row of {path} must have {width} values like its header: {shown}{more}. "
        "Put values that hold the separator or line breaks in double quotes."
    )


def _json_lines(path: Path, notes: Notes) -> Columns:
    lines = read_text(path, notes).split("\n")
    return from_records(parse_json(line, f"{path}, line {n}", dict) for n, line in enumerate(lines, 1) if line.strip())


def _json_file(path: Path, notes: Notes) -> Columns:
    text = read_text(path, notes)
    if not text.lstrip().startswith("["):
        return _json_lines(path, [])
    records = parse_json(text, str(path), list)
    wrong = next((i for i, record in enumerate(records) if not isinstance(record, dict)), None)
    if wrong is not None:
        raise DataError(f"{path} must be an array of objects; item {wrong} is {str(records[wrong])[:60]!r}.")
    return from_records(records)


def parse_json(text: str, where: str, expected: type) -> Any:
    """DataError where it is no valid JSON, holds a key twice, or is of another type."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        check_names([key for key, _ in items], where)
        return dict(items)

    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise DataError(f"{where} is not valid JSON: {error}.") from None
    if not isinstance(value, expected):
        raise DataError(f"{where}: expected {'an object' if expected is dict else 'an array'}, found {text[:60]!r}.")
    return value


def _parquet(path: Path, notes: Notes) -> Columns:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:  # not read_table: it makes columns of folder names like a=1
            return from_arrow(file.read(), path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}") from None


def _arrow(path: Path, notes: Notes) -> Columns:
    with path.open("rb") as file:
        try:
            opened = pa.ipc.open_file if file.read(6) == b"ARROW1" else pa.ipc.open_stream
            file.seek(0)
            return from_arrow(opened(file).read_all(), path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a whole Arrow file: {error}") from None


def from_arrow(table: pa.Table, where: object) -> Columns:
    check_names(table.column_names, where)
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        columns[name] = [plain(v) for v in column.to_pylist()]
    return columns


def _whole_text(path: Path, notes: Notes) -> Columns:
    return {media(path): [read_text(path, notes)]}


def from_records(records: Iterable[dict[str, Any]]) -> Columns:
    """A list of rows; a row that lacks a column lacks its value."""
    records = list(records)
    names = dict.fromkeys(str(name) for record in records for name in record)
    return {name: [plain(record.get(name)) for record in records] for name in names}


def media(path: Path) -> str | None:
    """What a file holds, by its name: the first word of its MIME type, which also names the column."""
    kind = _MEDIA.guess_type(path.name, strict=False)[0]
    return kind.partition("/")[0] if kind else None


def as_files(values: list[Any], folder: Path) -> list[Any]:
    """Paths, where strings name files beside the table: one kind of media, most of them there."""
    present = [v for v in values if v is not None]
    if not present or not all(isinstance(v, str) and len(v) < 500 and "\n" not in v for v in present):
        return values
    if media(Path(present[0])) is None or len({media(Path(v)) for v in present}) > 1:
        return values
    there = sum((folder / v).is_file() for v in present)
    return [None if v is None else folder / v for v in values] if there > len(present) / 2 else values


def join(tables: list[Columns]) -> Columns:
    """One under the other; a column that one of them lacks is missing there."""
    names = dict.fromkeys(name for columns in tables for name in columns)
    return {name: [v for c in tables for v in (c[name] if name in c else [None] * rows(c))] for name in names}


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


READERS: dict[str, Callable[[Path, Notes], Columns]] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_file,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".txt": _whole_text,
}
