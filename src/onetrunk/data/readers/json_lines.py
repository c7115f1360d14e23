"""JSON: an object a line, in files of any size; one array of objects; a table as pandas writes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from onetrunk.core.errors import DataError
from onetrunk.core.values import BLOCK, Chain
from onetrunk.data import spool as spools
from onetrunk.data.readers.common import Columns, Notes, check_names, plain, unicode_rows
from onetrunk.data.readers.memory import from_records
from onetrunk.data.readers.text import TextFile
from onetrunk.data.spool import ArrowValues, Decode, Missing, Spool

Record = dict[str, Any]


def json_lines(path: Path, notes: Notes) -> Columns:
    file = TextFile(path, notes)
    records = (parse_json(line, f"{path}, line {n}", dict) for n, line in enumerate(_lines(file), 1) if line.strip())
    if file.size > spools.IN_MEMORY_BYTES:
        return spooled(unicode_rows(records, notes))
    held = list(records)
    return _one_object(held[0], path) if len(held) == 1 else from_records(held)


def json_file(path: Path, notes: Notes) -> Columns:
    file = TextFile(path, notes)
    first = next((block.lstrip("\ufeff \t\r\n") for block in file.blocks() if block.strip()), "")
    if not first.startswith("["):
        if not _is_lines(file):
            return _one_object(parse_json(file.read(), str(path), dict), path)
        new_notes: Notes = []
        columns = json_lines(path, new_notes)
        notes += [note for note in new_notes if note not in notes]
        return columns
    records = parse_json(file.read(), str(path), list)
    if records and all(isinstance(record, list) for record in records):
        raise DataError(
            f"{path} is an array of arrays, which has no names for its columns (pandas' orient='values'). "
            "Write it with orient='records'."
        )
    wrong = next((i for i, record in enumerate(records) if not isinstance(record, dict)), None)
    if wrong is not None:
        raise DataError(f"{path} must be an array of objects; item {wrong} is {str(records[wrong])[:60]!r}.")
    return from_records(records)


def _is_lines(file: TextFile) -> bool:
    """Has it an object a line? Else it is one object."""
    lines = (line for line in _lines(file) if line.strip())
    try:
        json.loads(next(lines))
    except (ValueError, RecursionError):
        # Not whole: one object over several lines, or a line that is damaged, of which reading it by lines says more.
        return next(lines, "").lstrip().startswith("{")
    return next(lines, None) is not None


def _one_object(document: Record, path: Path) -> Columns:
    """A row; or a table as pandas' `to_json` writes it by default (`orient` columns), or with split, index or table."""
    names, cells = document.get("columns"), document.get("data")
    if document.keys() == {"columns", "index", "data"} and isinstance(names, list) and isinstance(cells, list):
        check_names([str(name) for name in names], path)
        wrong = next((i for i, row in enumerate(cells) if not isinstance(row, list) or len(row) != len(names)), None)
        if wrong is not None:
            raise DataError(f"{path}: row {wrong} of data has not the {len(names)} values that columns names.")
        return from_records(dict(zip(map(str, names), row, strict=True)) for row in cells)
    if document.keys() == {"schema", "data"} and isinstance(cells, list) and all(isinstance(r, dict) for r in cells):
        schema = document["schema"]
        keys = schema.get("primaryKey", []) if isinstance(schema, dict) else []
        return from_records({k: v for k, v in row.items() if k not in keys} for row in cells)
    inner = list(document.values())
    if not inner or not all(isinstance(value, dict) and value for value in inner):
        return from_records([document])
    alike = all(value.keys() == inner[0].keys() for value in inner)
    if not alike or any(isinstance(v, dict | list) for value in inner for v in value.values()):
        return from_records([document])
    if all(map(_counts, inner[0])):  # by columns, of which each names its rows
        return {str(name): [plain(value[key]) for key in inner[0]] for name, value in document.items()}
    if all(map(_counts, document)):  # by rows
        return from_records(inner)
    raise DataError(
        f"{path} is an object of objects, whose names do not tell rows from columns, for example "
        f"{next(iter(document))!r} and {next(iter(inner[0]))!r}. "
        "Write a table with orient='records', and a row as one line of a .jsonl file."
    )


def _counts(key: str) -> bool:
    """Is it the number of a row?"""
    return key.isdecimal()


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


def _lines(file: TextFile) -> Iterator[str]:
    rest = ""
    for block in file.blocks():
        *lines, rest = (rest + block).split("\n")
        yield from lines
    yield rest


def spooled(records: Iterable[Record]) -> Columns:
    """The columns of more records than memory should hold.

    Cells are kept as text: as it is where all of a block are strings, else each as JSON. A block with a column that
    those before it lack begins a spool of its own."""
    names: dict[str, None] = {}
    blocks: list[tuple[list[str], Spool, list[dict[str, Decode]]]] = []
    for block in _blocks(records):
        names.update((str(name), None) for record in block for name in record)
        if not blocks or len(blocks[-1][0]) < len(names):
            blocks.append((list(names), Spool(), []))
        known, spool, decoders = blocks[-1]
        cells = {name: _cells([plain(record.get(name)) for record in block]) for name in known}
        spool.append(pa.RecordBatch.from_arrays([cells[name][0] for name in known], known))
        decoders.append({name: cells[name][1] for name in known})
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for known, spool, decoders in blocks:
        batches = spool.batches()
        for name in names:
            if name in known:
                i = known.index(name)
                origin = None if spool.number is None else (spool.number, i)
                arrays = [batch.column(i) for batch in batches]
                columns[name].append(ArrowValues(arrays, [decoder[name] for decoder in decoders], origin=origin))
            else:
                columns[name].append(Missing(sum(batch.num_rows for batch in batches), spool.number))
    return {name: values[0] if len(values) == 1 else Chain(values) for name, values in columns.items()}


def _blocks(records: Iterable[Record]) -> Iterator[list[Record]]:
    block: list[Record] = []
    for record in records:
        block.append(record)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _cells(values: list[Any]) -> tuple[pa.Array, Decode]:
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {bytes}:
        return pa.array(values, pa.large_binary()), STRINGS
    if kinds <= {str}:
        return pa.array(values, pa.string()), STRINGS
    return pa.array([None if v is None else json.dumps(v) for v in values], pa.string()), FROM_JSON


def _strings(cells: pa.Array) -> list[Any]:
    return cells.to_pylist()


def _from_json(cells: pa.Array) -> list[Any]:
    return json.loads(f"[{','.join('null' if cell is None else cell for cell in cells.to_pylist())}]")


STRINGS = Decode(_strings, name=("strings",))
FROM_JSON = Decode(_from_json, name=("json",))
