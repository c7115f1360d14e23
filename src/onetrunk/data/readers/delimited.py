"""CSV and TSV files of any size, read in one pass."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as arrow_csv

from onetrunk.core.errors import DataError
from onetrunk.data.readers.arrow import columns_of, present, python_values
from onetrunk.data.readers.cells import DECIMAL, MISSING, Kind, typed
from onetrunk.data.readers.common import Columns, Notes, check_names, header_names
from onetrunk.data.readers.text import TextFile
from onetrunk.data.spool import Decode, Spool

_BLOCKS = (1 << 20, 16 << 20, 64 << 20)  # bytes; a row must fit in one, so that larger ones are tried after
_TOO_LONG = "straddling object"  # Arrow's words for a row that does not


def delimited(delimiter: str) -> Callable[[Path, Notes], Columns]:
    """A reader of files with this sign between cells."""

    def read(path: Path, notes: Notes) -> Columns:
        file = TextFile(path, notes)
        names = _header(file, delimiter)
        check_names(names, path)
        return _Reading(file, names, delimiter).columns(notes)

    return read


def _header(file: TextFile, delimiter: str) -> list[str]:
    with file.text() as text:
        return header_names(next(row for row in csv.reader(text, delimiter=delimiter) if row))


class _Reading:
    """One file, its columns as text first: what they mean is known when all cells have been seen."""

    def __init__(self, file: TextFile, names: list[str], delimiter: str) -> None:
        self.file, self.names, self.delimiter = file, names, delimiter

    def columns(self, notes: Notes) -> Columns:
        quote: str | bool = '"'
        failed = None
        try:
            spool, kinds, rows = self._read(quote)
        except pa.ArrowInvalid as error:
            spool, failed = None, str(error)
        if self.delimiter == "\t" and any('"' in block for block in self.file.blocks()):
            # Most TSV files quote nothing: a stray quote then fails, or silently swallows lines up to another.
            try:
                unquoted = self._read(False)
            except pa.ArrowInvalid:
                unquoted = None
            if unquoted is not None and (spool is None or unquoted[2] > rows):
                spool, kinds, rows = unquoted
                notes.append(f"{self.file.path.name}: quotation marks were read as ordinary characters.")
        if spool is None:
            raise DataError(self._ragged() or f"Cannot read {self.file.path}: {failed}.")
        decoders = {name: _decoder(kind.name) for name, kind in kinds.items()}
        return columns_of(spool, self.names, lambda name, batch: decoders[name])

    def _read(self, quote: str | bool) -> tuple[Spool, dict[str, Kind], int]:
        for block in _BLOCKS:
            spool, kinds, rows = Spool(), {name: Kind() for name in self.names}, 0
            try:
                for batch in self._batches(quote, min(block, self.file.size + 2)):
                    rows += batch.num_rows
                    for name, cells in zip(self.names, batch.columns, strict=True):
                        kinds[name].look(cells)
                    spool.append(batch)
                return spool, kinds, rows
            except pa.ArrowInvalid as error:
                if _TOO_LONG not in str(error) or block == _BLOCKS[-1]:
                    raise
        raise AssertionError("the last block size returns or raises")

    def _batches(self, quote: str | bool, block: int) -> Iterator[pa.RecordBatch]:
        with self.file.utf8() as stream:
            yield from arrow_csv.open_csv(
                stream,
                # With threads, a process that exits soon after is sometimes aborted by its idle pool.
                read_options=arrow_csv.ReadOptions(
                    use_threads=False, block_size=block, column_names=self.names, skip_rows_after_names=1
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.delimiter, quote_char=quote, newlines_in_values=bool(quote)
                ),
                convert_options=arrow_csv.ConvertOptions(
                    null_values=list(MISSING),
                    strings_can_be_null=True,
                    column_types={name: pa.string() for name in self.names},
                ),
            )

    def _ragged(self) -> str | None:
        bad: list[tuple[int, int]] = []
        count = 0
        try:
            with self.file.text() as text:
                reader = csv.reader(text, delimiter=self.delimiter)
                for row in reader:
                    if row and len(row) != len(self.names):
                        count += 1
                        bad = [*bad, (reader.line_num, len(row))][:5]
        except csv.Error:
            return None
        if not bad:
            return None
        lines = "; ".join(f"line {line} has {width}" for line, width in bad)
        more = f"; and {count - len(bad):,} more" if count > len(bad) else ""
        return (
            f"Every row of {self.file.path} must have {len(self.names)} values like its header: {lines}{more}. "
            "Put values that hold the separator or line breaks in double quotes."
        )


def _decoder(kind: str) -> Decode:
    return Decode(
        lambda cells: python_values(typed(cells, kind)),
        lambda cells: present(typed(cells, kind)) if kind == DECIMAL else cells.is_valid(),
    )
