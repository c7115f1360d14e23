"""CSV and TSV files of any size, read in one pass."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from onetrunk.core.errors import DataError
from onetrunk.data.readers.arrow import columns_of, present, python_values
from onetrunk.data.readers.cells import DECIMAL, MISSING, TEXT, Kind, typed
from onetrunk.data.readers.common import Columns, Notes, ReadOptions, check_names, header_names, separator_of
from onetrunk.data.readers.text import TextFile
from onetrunk.data.spool import Decode, Spool

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BLOCKS = (1 << 20, 16 << 20, 64 << 20)  # bytes; a row must fit in one, so that larger ones are tried after
_MANY_COLUMNS = 200  # whose cells are few in a small block: each column of each block has its cost
_TOO_LONG = "straddling object"  # Arrow's words for a row that does not
_SAMPLE = 1 << 16  # characters by which the separator is known
_SWALLOWED = 0.05  # share of a column's cells from which on a word for missing values may be data


def delimited(separator: str) -> Callable[[Path, Notes, ReadOptions], Columns]:
    """A reader of files with this sign between cells, or with another that divides every row alike."""

    def read(path: Path, notes: Notes, options: ReadOptions) -> Columns:
        file = TextFile(path, notes)
        layout = _layout(file, separator, options.separator)
        if layout.separator != separator and options.separator is None:
            named = SEPARATORS.get(layout.separator, "signs")
            notes.append(f"{path.name}: its cells are separated by {named} ({layout.separator.strip() or 'tab'}).")
        names = _header(file, layout)
        check_names(names, path)
        return _Reading(file, names, layout, options).columns(notes)

    return read


@dataclass(frozen=True)
class _Layout:
    separator: str
    skipped: int = 0  # lines before the header


def _layout(file: TextFile, expected: str, told: str | None) -> _Layout:
    sample = next(file.blocks()).lstrip("\ufeff")
    whole = len(sample) < _SAMPLE
    lines = sample[:_SAMPLE].splitlines(keepends=True)
    lines = lines if whole or len(lines) < 2 else lines[:-1]
    if excel := re.fullmatch(r"sep=(.)\s*", lines[0]):  # a line by which Excel is told
        return _Layout(told or separator_of(excel[1]), 1)
    if told is not None:
        return _Layout(told)
    widths = {separator: _width(lines, separator) for separator in (expected, *SEPARATORS)}
    if widths[expected] > 1:
        return _Layout(expected)
    best = max(widths, key=lambda separator: widths[separator])
    return _Layout(best if widths[best] > 1 else expected)


def _width(lines: list[str], separator: str) -> int:
    """How many cells each row has; 0 where they differ."""
    try:
        widths = {len(row) for row in csv.reader(lines, delimiter=separator) if row}
    except csv.Error:
        return 0
    return widths.pop() if len(widths) == 1 else 0


def _header(file: TextFile, layout: _Layout) -> list[str]:
    with file.text() as text:
        for _ in range(layout.skipped):
            next(text)
        return header_names(next(row for row in csv.reader(text, delimiter=layout.separator) if row))


class _Reading:
    """One file, its columns as text first: what they mean is known when all cells have been seen."""

    def __init__(self, file: TextFile, names: list[str], layout: _Layout, options: ReadOptions) -> None:
        self.file, self.names, self.layout, self.missing = file, names, layout, options.missing

    def columns(self, notes: Notes) -> Columns:
        quote: str | bool = '"'
        failed = None
        try:
            spool, kinds, rows = self._read(quote)
        except pa.ArrowInvalid as error:
            spool, failed = None, str(error)
        if self.layout.separator == "\t" and self.file.quoted:
            # Most TSV files quote nothing: a stray quote then fails, or silently swallows lines up to another.
            try:
                unquoted = self._read(False)
            except pa.ArrowInvalid:
                unquoted = None
            if unquoted is not None and (spool is None or unquoted[2] > rows):
                spool, kinds, rows = unquoted
                quote = False
                notes.append(f"{self.file.path.name}: quotation marks were read as ordinary characters.")
        if spool is None:
            raise DataError(self._ragged() or f"Cannot read {self.file.path}: {failed}.")
        if self.missing is None:
            notes += self._swallowed(quote, spool, [name for name in self.names if kinds[name].name == TEXT])
        text = cell_decoder(TEXT, self._has_words(quote))
        decoders = {n: text if kind.name == TEXT else cell_decoder(kind.name, kind.words) for n, kind in kinds.items()}
        return columns_of(spool, self.names, lambda name: decoders[name], text)

    def _has_words(self, quote: str | bool) -> bool:
        """May words that stand for a missing value be data, because they are quoted?"""
        return self.file.quoted and bool(quote) and self.missing is None

    def _read(self, quote: str | bool) -> tuple[Spool, dict[str, Kind], int]:
        for block in _BLOCKS[1:] if len(self.names) > _MANY_COLUMNS else _BLOCKS:
            spool, kinds, rows = Spool(), {name: Kind(self._has_words(quote)) for name in self.names}, 0
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

    def _batches(
        self, quote: str | bool, block: int, missing: tuple[str, ...] | None = None, only: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        if missing is None:
            missing = MISSING if self.missing is None else ("", *self.missing)
        with self.file.utf8() as stream:
            yield from arrow_csv.open_csv(
                stream,
                # With threads, a process that exits soon after is sometimes aborted by its idle pool.
                read_options=arrow_csv.ReadOptions(
                    use_threads=False,
                    block_size=block,
                    column_names=self.names,
                    skip_rows=self.layout.skipped,
                    skip_rows_after_names=1,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.layout.separator, quote_char=quote, newlines_in_values=bool(quote)
                ),
                convert_options=arrow_csv.ConvertOptions(
                    null_values=list(missing),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=not self._has_words(quote),
                    column_types={name: pa.string() for name in self.names},
                    include_columns=only or [],
                ),
            )

    def _swallowed(self, quote: str | bool, spool: Spool, names: list[str]) -> list[str]:
        """What to say of words that were taken for missing values and may be data: those that are frequent among the
        first cells of a column of text."""
        first = spool.first
        names = [name for name in names if first is not None and first.column(self.names.index(name)).null_count]
        if first is None or not names:
            return []
        batch = next(self._batches(quote, max(first.nbytes, _BLOCKS[0]), ("",), names))
        messages = []
        for name in names:
            taken = first.column(self.names.index(name))
            n = min(len(taken), batch.num_rows)
            cells = batch.column(name)[:n].filter(pc.is_null(taken[:n])).drop_null()
            messages += [
                f"{name}: the word {each['values']!r} stands in {each['counts']:,} of {n:,} cells and was read as a "
                "missing value. If it is data, name the words that are not: --missing WORD,WORD (or '' for none)."
                for each in pc.value_counts(cells).to_pylist()
                if each["counts"] >= max(2, _SWALLOWED * n)
            ]
        return messages

    def _ragged(self) -> str | None:
        bad: list[tuple[int, int]] = []
        count = 0
        try:
            with self.file.text() as text:
                reader = csv.reader(text, delimiter=self.layout.separator)
                for number, row in enumerate(reader):
                    if number >= self.layout.skipped and row and len(row) != len(self.names):
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
            "Put values that hold the separator or line breaks in double quotes; if another sign separates the cells, "
            "say so: --separator ';'"
        )


def cell_decoder(kind: str, words: bool) -> Decode:
    """What makes values of a column's cells, of this kind; with `words`, those in quotation marks are looked at."""
    name = ("cells", kind, "words" if words else "")
    if not words:
        return Decode(
            lambda cells: python_values(typed(cells, kind)),
            lambda cells: present(typed(cells, kind)) if kind == DECIMAL else cells.is_valid(),
            name,
        )
    return Decode(
        lambda cells: python_values(typed(cells, kind, quoted=True)),
        lambda cells: present(typed(cells, kind, quoted=True)),
        name,
    )
