"""JSON: an object a line, in files of any size, or one array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from onetrunk.core.errors import DataError
from onetrunk.core.values import BLOCK, Chain, Repeated
from onetrunk.data import spool as spools
from onetrunk.data.readers.common import Columns, Notes, check_names, plain
from onetrunk.data.readers.memory import from_records
from onetrunk.data.readers.text import TextFile
from onetrunk.data.spool import ArrowValues, Decode, Spool

Record = dict[str, Any]


def json_lines(path: Path, notes: Notes) -> Columns:
    file = TextFile(path, notes)
    records = (parse_json(line, f"{path}, line {n}", dict) for n, line in enumerate(_lines(file), 1) if line.strip())
    return from_records(records) if file.size <= spools.IN_MEMORY_BYTES else _spooled(records)


def json_file(path: Path, notes: Notes) -> Columns:
    file = TextFile(path, notes)
    first = next((block.lstrip("\ufeff \t\r\n") for block in file.blocks() if block.strip()), "")
    if not first.startswith("["):
        return json_lines(path, [])
    records = parse_json(file.read(), str(path), list)
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


def _lines(file: TextFile) -> Iterator[str]:
    rest = ""
    for block in file.blocks():
        *lines, rest = (rest + block).split("\n")
        yield from lines
    yield rest


def _spooled(records: Iterable[Record]) -> Columns:
    """Cells as text: as it is where all of a block are strings, else each as JSON. A block with a column that those
    before it lack begins a spool of its own."""
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
                arrays = [batch.column(known.index(name)) for batch in batches]
                columns[name].append(ArrowValues(arrays, [decoder[name] for decoder in decoders]))
            else:
                columns[name].append(Repeated(None, sum(batch.num_rows for batch in batches)))
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
    if all(v is None or isinstance(v, str) for v in values):
        try:
            return pa.array(values, pa.string()), Decode(_strings)
        except (pa.ArrowInvalid, UnicodeEncodeError):
            pass  # half of a surrogate pair: JSON can write it, UTF-8 cannot
    return pa.array([None if v is None else json.dumps(v) for v in values], pa.string()), Decode(_from_json)


def _strings(cells: pa.Array) -> list[Any]:
    return cells.to_pylist()


def _from_json(cells: pa.Array) -> list[Any]:
    return json.loads(f"[{','.join('null' if cell is None else cell for cell in cells.to_pylist())}]")
