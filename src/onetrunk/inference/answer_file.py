"""Writes rows and their answers to a file, block by block. The file appears only when it is complete; a command that
was killed goes on after its last block."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from onetrunk.core.encoder import FileAnswers
from onetrunk.core.errors import ModelFileError
from onetrunk.core.values import blocks, present
from onetrunk.data.readers.common import TABLE_METADATA
from onetrunk.data.table import Table
from onetrunk.inference.part_file import PartFile
from onetrunk.media.marking import KEY, Mark
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.names import file_name
from onetrunk.storage.strict_json import read_json, write_json_whole

_MAX_SHOWN = 200  # answers, in the picture of them
_COMPRESSION = "zstd"  # of Parquet, and of what is to become it: the rows' own texts are most of it
_PLAIN = (str, bool, int, float, datetime.date, Path, list, dict, type(None))


class AnswerFile:
    """`with AnswerFile(out, rows) as file: file.append(answers)`, once for each block of rows.

    It holds the rows' own columns, then the answers, by the file's suffix. Answers of the columns `drawn`, by name,
    become files in a folder beside it, where NAME.png shows the first of them. An own column with an answer's name is
    what may be true: NAME_true.
    With a `mark` they say that a model made them: each file, a Parquet table itself, a table of text in a JSON file
    beside it; where people are to see it, the texts of the columns `texts`, too.
    What is at `out` stays as it is until everything is written; an error leaves it so. With a `command` (equal for a
    command given twice) a file whose writer was killed is gone on with: `goes_on`, after the rows up to `first`, and
    `beside` is what the last `append` was told to keep. `first` is the number of the first row that it is to hold.
    """

    def __init__(
        self,
        out: Path,
        rows: Table,
        drawn: Mapping[str, FileAnswers] | None = None,
        mark: Mark | None = None,
        texts: Sequence[str] = (),
        *,
        command: str | None = None,
        first: int = 0,
    ) -> None:
        self.mark, self.texts = mark, set(texts)
        self.out, self.rows, self.first, self.drawn = out, rows, first, dict(drawn or {})
        self.left_out: list[str] = []  # own columns that cannot stand in such a file (pictures in memory)
        self.goes_on = False
        self.beside: Any = None
        self._begins = first
        self._names: list[str] | None = None  # of answers
        self._own: dict[str, str] = {}  # own columns by their names in the file
        self._drawn_answers: dict[str, list[Any]] = {}  # of the drawn ones, the first
        self._part = PartFile(out, command)
        self._parquet: _RowGroups | None = None

    def __enter__(self) -> Self:
        with disk_errors(self.out):
            self._part.open()
        if (left := self._part.state) is not None:
            self.goes_on, self.first, self.beside = True, left["first"], left["beside"]
            self._names, self._own, self.left_out = left["names"], left["own"], left["left_out"]
        if self.out.suffix.lower() == ".parquet":
            self._parquet = _RowGroups(self._part.path, [0] if left is None else left["ends"])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is not None:
            if self._parquet is not None:
                self._parquet.close()
            if issubclass(kind, Exception):
                self._part.discard()  # the same would happen again
            self._part.close()
            return
        with disk_errors(self.out):
            try:
                self._finish()
            except OSError:
                self._part.discard()
                raise

    def _finish(self) -> None:
        if self._parquet is None:
            self._part.finish()
        else:
            whole = self._part.path.with_suffix(".whole")
            try:
                self._parquet.write(whole, self.mark)
                self._part.finish(whole)
            finally:
                whole.unlink(missing_ok=True)
        self._mark_beside()

    def append(self, answers: Mapping[str, Sequence[Any]], beside: Any = None) -> None:
        """The answers of the next rows, by column; what is to be kept beside them, as JSON. ResourceError where they
        cannot be written."""
        count = len(next(iter(answers.values()), []))
        if self._names is None:
            self._begin(list(answers))
        suffix = self.out.suffix.lower()
        own = self.rows.take(np.arange(self.first, self.first + count))
        columns = {column: [_cell(v, suffix) for v in own[name]] for column, name in self._own.items()}
        with disk_errors(self.out):
            for name in self._names or []:
                values = list(answers.get(name, [None] * count))
                if self.mark is not None and name in self.texts:
                    values = [self.mark.on_text(v) if isinstance(v, str) else v for v in values]
                columns[name] = [_cell(v, suffix) for v in self._drawn(name, values)]
            self.left_out += [name for name in answers if name not in (self._names or []) and name not in self.left_out]
            self._write(columns)
            self.first += count
            ends = None if self._parquet is None else self._parquet.ends
            self._part.commit(
                first=self.first, beside=beside, names=self._names, own=self._own, left_out=self.left_out, ends=ends
            )

    def _begin(self, names: list[str]) -> None:
        self._names = names
        for name, values in self.rows.columns.items():
            if name in names and not present(values).any():
                continue
            if all(isinstance(v, _PLAIN) for block in blocks(values) for v in block):
                self._own[f"{name}_true" if name in names else name] = name
            else:
                self.left_out.append(name)

    def _write(self, columns: dict[str, list[Any]]) -> None:
        import pandas as pd

        if self._parquet is not None:
            self._parquet.append(columns)
            return
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        with self._part.path.open("a", encoding="utf-8", newline="") as file:
            if self.out.suffix.lower() == ".csv":
                frame.to_csv(file, index=False, header=self.first == self._begins)
            else:
                frame.to_json(file, orient="records", lines=True, force_ascii=False)

    def _marked(self, file: bytes) -> bytes:
        return file if self.mark is None else self.mark.on_file(file)

    def _mark_beside(self) -> None:
        """What is said of a table that has no room for it; what was said of one that stood there before is removed."""
        beside = self.out.with_name(f"{self.out.name}{TABLE_METADATA}")
        if self.mark is None or self._parquet is not None:
            if _is_label(beside):
                beside.unlink()
            return
        with self.out.open("rb") as file:
            identifier = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        label = {"@context": "http://www.w3.org/ns/csvw", "url": self.out.name, KEY: self.mark.fields(identifier)}
        write_json_whole(beside, label)

    def _drawn(self, name: str, values: list[Any]) -> list[Any]:
        """Paths instead of answers that are files."""
        if name not in self.drawn:
            return values
        folder, kind = self.out.with_suffix(""), self.drawn[name]
        folder.mkdir(parents=True, exist_ok=True)
        paths: list[str | None] = []
        for i, value in enumerate(values, start=self.first):
            path = folder / f"{file_name(name)}-{i:04d}{kind.suffix}"
            paths.append(None if value is None else str(path))
            if value is not None:
                path.write_bytes(self._marked(kind.as_file(value)))
        drawn, before = self._drawn_answers.setdefault(name, []), len(self._drawn_answers[name])
        if not self.goes_on:  # else the first are shown already
            drawn += [value for value in values if value is not None][: _MAX_SHOWN - before]
        if len(drawn) > before and (sheet := kind.sheet(drawn)) is not None:
            (folder / f"{file_name(name)}.png").write_bytes(self._marked(sheet))
        return paths


class _RowGroups:
    """Row groups of a Parquet file, each a stream of Arrow in a file of them: a column's type is known when all of them
    are there. `ends` are where they end; those of an earlier run are taken as they are."""

    def __init__(self, path: Path, ends: list[int]) -> None:
        self._file = path.open("rb+")
        self.ends = list(ends)
        self._types: dict[str, set[pa.DataType]] = {}
        for end in self.ends[:-1]:
            self._file.seek(end)
            self._keep(pa.ipc.open_stream(self._file).schema)
        self._file.seek(self.ends[-1])

    def _keep(self, schema: pa.Schema) -> None:
        for field in schema:
            self._types.setdefault(field.name, set()).add(field.type)

    def append(self, columns: dict[str, list[Any]]) -> None:
        table = pa.table({name: _array(values) for name, values in columns.items()})
        self._keep(table.schema)
        options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION)
        with pa.ipc.new_stream(self._file, table.schema, options=options) as writer:
            writer.write_table(table)
        self._file.flush()
        self.ends.append(self._file.tell())

    def write(self, path: Path, mark: Mark | None = None) -> None:
        from pyarrow import parquet

        label = None
        if mark is not None:
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, lambda: hashlib.blake2b(digest_size=16))
            label = {KEY: json.dumps(mark.fields(digest.hexdigest()))}
        schema = pa.schema([(name, _common(types)) for name, types in self._types.items()], label)
        with parquet.ParquetWriter(path, schema, compression=_COMPRESSION) as writer:
            for end in self.ends[:-1]:
                self._file.seek(end)
                table = pa.ipc.open_stream(self._file).read_all()
                arrays = [_as(table.column(field.name), field.type) for field in schema]
                writer.write_table(pa.table(arrays, schema))
        self.close()

    def close(self) -> None:
        self._file.close()


def _is_label(path: Path) -> bool:
    try:
        return path.is_file() and KEY in read_json(path)
    except ModelFileError:  # a file of somebody else
        return False


def _array(values: list[Any]) -> pa.Array:
    """Of one type; where values are of several, as text."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values], pa.string())


def _common(types: set[pa.DataType]) -> pa.DataType:
    """What values of all these types can be written as."""
    known = [kind for kind in types if not pa.types.is_null(kind)]
    if len(known) < 2:
        return known[0] if known else pa.null()
    try:
        schemas = [pa.schema([("x", kind)]) for kind in known]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_string(kind) and not pa.types.is_string(column.type):
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], kind)])
    return column.cast(kind)


def _cell(value: Any, suffix: str) -> Any:
    """A value as such a file can hold it and `read` takes it back."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime.date) and suffix != ".parquet":
        return value.isoformat()
    if isinstance(value, list | dict) and suffix == ".csv":
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
