"""Tables in files that may hold several: workbooks (Excel, OpenDocument) and SQLite databases.

`FILE:NAME` names one sheet or table.
"""

from __future__ import annotations

import datetime
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from onetrunk.core.errors import DataError, MissingExtraError, nearest
from onetrunk.core.unpacking import Unpacked
from onetrunk.data import spool as spools
from onetrunk.data.readers.common import Columns, Notes, check_names, header_names
from onetrunk.data.readers.json_lines import spooled
from onetrunk.data.readers.memory import from_records

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
DATABASES = (".sqlite", ".sqlite3", ".db")
_ERRORS = ("#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!")


def split_name(path: Path) -> tuple[Path, str | None]:
    """`shop.db:orders` as the file and the name of a table in it; other paths as they are."""
    file, colon, inside = path.name.rpartition(":")
    there = path.with_name(file) if colon and file and inside else path
    if there is path or path.exists() or there.suffix.lower() not in (*WORKBOOKS, *DATABASES):
        return path, None
    return there, inside


# -- workbooks ---------------------------------------------------------------------------------------------------------
def workbook(path: Path, notes: Notes, sheet: str | None = None) -> Columns:
    """One sheet, whose first row that is not empty names the columns. MissingExtraError without python-calamine."""
    try:
        import python_calamine as calamine
    except ImportError:
        raise MissingExtraError("python-calamine", "excel", f"Reading {path.name}") from None
    _check_packed(path)
    try:
        with calamine.CalamineWorkbook.from_path(str(path)) as book:
            tables = {name: book.get_sheet_by_name(name).to_python() for name in _named(book.sheet_names, sheet, path)}
    except (calamine.CalamineError, OSError) as error:
        raise DataError(f"{path} is not a whole workbook: {error}") from None
    tables = {name: rows for name, rows in tables.items() if any(any(cell != "" for cell in row) for row in rows)}
    if len(tables) > 1:
        raise DataError(f"{path} has several sheets: {_name_one(path, list(tables))}")
    if not tables:
        raise DataError(f"{path} is empty: expected a header and rows in a sheet.")
    rows = [row for row in next(iter(tables.values())) if any(cell != "" for cell in row)]
    names = header_names([str(cell) for cell in rows[0]])
    check_names(names, path)
    columns = zip(*([_cell(cell) for cell in row] for row in rows[1:]), strict=True)
    return {name: _whole(list(values)) for name, values in zip(names, columns, strict=bool(len(rows) > 1))}


def _check_packed(path: Path) -> None:
    """DataError where a workbook, which is a zip, would unpack to far more than it is."""
    try:
        with zipfile.ZipFile(path) as file:
            sizes = sum(entry.file_size for entry in file.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # of the old form, or no workbook: its reader says so
    if (bomb := Unpacked(path.stat().st_size).bomb(sizes)) is not None:
        raise DataError(f"Cannot read {path}: {bomb}.")


def _named(names: list[str], wanted: str | None, path: Path) -> list[str]:
    if wanted is not None and wanted not in names:
        raise DataError(f"{path} has no {wanted!r}.{nearest(wanted, names)}")
    return names if wanted is None else [wanted]


def _name_one(path: Path, names: list[str]) -> str:
    return f"{', '.join(names)}. Name one, like {path.name}:{names[0]}"


def _cell(cell: Any) -> Any:
    """Empty cells, and those of formulas that failed, are missing."""
    if isinstance(cell, str):
        return None if not cell.strip() or cell in _ERRORS else cell
    if isinstance(cell, datetime.timedelta):
        return cell.total_seconds()
    return cell.isoformat() if isinstance(cell, datetime.time) else cell


def _whole(values: list[Any]) -> list[Any]:
    """A workbook holds whole numbers as floats."""
    floats = [v for v in values if isinstance(v, float)]
    if floats and all(v.is_integer() and abs(v) < 2**53 for v in floats):
        return [int(v) if isinstance(v, float) else v for v in values]
    return values


# -- databases ---------------------------------------------------------------------------------------------------------
def database(path: Path, notes: Notes, name: str | None = None) -> Columns:
    """One table of an SQLite database, which is opened for reading only."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")  # no function that the file itself names
            cursor = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
            tables = [row[0] for row in cursor if not row[0].startswith("sqlite_")]
            if not tables:
                raise DataError(f"{path} has no table.")
            if len(tables) > 1 and name is None:
                raise DataError(f"{path} has several tables: {_name_one(path, tables)}")
            (chosen,) = _named(tables, name, path)
            quoted = chosen.replace('"', '""')
            cursor = connection.execute(f'SELECT * FROM "{quoted}"')
            names = [column[0] for column in cursor.description]
            records = _records(cursor, names)
            if path.stat().st_size > spools.IN_MEMORY_BYTES:
                return spooled(records)
            return from_records(records) or {name: [] for name in names}
    except (sqlite3.Error, OSError) as error:
        raise DataError(f"{path} is not a whole SQLite database: {error}.") from None


def _records(cursor: sqlite3.Cursor, names: list[str]) -> Iterator[dict[str, Any]]:
    for row in cursor:
        yield dict(zip(names, row, strict=True))
