"""How the columns of a kept part are made again from its files: as JSON, made when a file was read.

A column is what its reader gave: cells of a text file with their kind, values of Arrow, JSON, names of files; or one
of these after another, where records had it only from some row on.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from onetrunk.core.errors import DataError
from onetrunk.core.values import Chain, Values, blocks
from onetrunk.data.readers.arrow import PLAIN, columns_of
from onetrunk.data.readers.common import Columns, Files
from onetrunk.data.readers.delimited import cell_decoder
from onetrunk.data.readers.json_lines import FROM_JSON, STRINGS
from onetrunk.data.spool import ArrowValues, Decode, Missing, Spool

Recipe = dict[str, Any]  # JSON
Batches = Mapping[int, Sequence[tuple[int, pa.RecordBatch]]]  # of each spool those that are whole, and their numbers
_ROWS = 4096  # written together


def described(columns: Columns) -> dict[str, Recipe]:
    """How each of these columns, read inside of `spool.keeping`, is made again. What no reader has written there, for
    it was read as a whole, is written now. DataError for values that cannot be kept."""
    recipes = {name: _recipe(values) for name, values in columns.items()}
    if all(recipe is not None for recipe in recipes.values()):
        return {name: recipe for name, recipe in recipes.items() if recipe is not None}
    return {name: recipe for name, values in _written(columns).items() if (recipe := _recipe(values)) is not None}


def _recipe(values: Sequence[Any]) -> Recipe | None:
    if isinstance(values, ArrowValues) and values.origin is not None:
        spool, column = values.origin
        decoders, cells = values.decoding
        several = len(set(decoders)) > 1
        return {
            "spool": spool, "column": column, "decode": decoders if several else decoders[:1], "cells": cells,
        }  # fmt: skip
    if isinstance(values, Missing) and values.spool is not None:
        return {"missing": values.spool}
    if isinstance(values, Files) and (names := _recipe(values.names)) is not None:
        return {"folder": str(values.folder.absolute()), "names": names}
    if isinstance(values, Chain) and values.parts is not None:
        parts = [_recipe(part) for part in values.parts]
        return {"chain": parts} if all(part is not None for part in parts) else None
    return None


def _written(columns: Columns) -> Columns:
    """Values of any kind as JSON, in a spool of their own."""
    spool, names = Spool(), list(columns)
    tagged: set[str] = set()  # columns of which some values are no JSON; in others an object is never taken for a tag
    for block in zip(*(blocks(values, _ROWS) for values in columns.values()), strict=True):
        cells = [pa.array([_as_json(name, value, tagged) for value in part], pa.large_string())
                 for name, part in zip(names, block, strict=True)]  # fmt: skip
        spool.append(pa.RecordBatch.from_arrays(cells, names))
    return columns_of(spool, names, lambda name: TAGGED if name in tagged else FROM_JSON)


def _as_json(name: str, value: Any, tagged: set[str]) -> str | None:
    if value is None:
        return None
    try:
        return json.dumps(value)
    except TypeError:
        tagged.add(name)
    try:
        return json.dumps(value, default=_tag)
    except TypeError:
        raise DataError(
            f"The column {name!r} holds a {type(value).__name__}, which cannot be kept: expected texts, numbers, "
            "moments, files, bytes, and lists and objects of them."
        ) from None


def _tag(value: Any) -> dict[str, str]:
    if isinstance(value, datetime.datetime):
        return {"$moment": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"$day": value.isoformat()}
    if isinstance(value, Path):
        return {"$file": str(value.absolute())}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


def _untag(value: dict[str, Any]) -> Any:
    match value:
        case {"$moment": text, **rest} if not rest:
            return datetime.datetime.fromisoformat(text)
        case {"$day": text, **rest} if not rest:
            return datetime.date.fromisoformat(text)
        case {"$file": text, **rest} if not rest:
            return Path(text)
        case {"$bytes": text, **rest} if not rest:
            return base64.b64decode(text)
    return value


def _from_tagged(cells: pa.Array) -> list[Any]:
    joined = ",".join("null" if cell is None else cell for cell in cells.to_pylist())
    return json.loads(f"[{joined}]", object_hook=_untag)


TAGGED = Decode(_from_tagged, name=("tagged",))
_DECODERS = {decode.name: decode for decode in (PLAIN, STRINGS, FROM_JSON, TAGGED)}


def _decoder(name: Sequence[str]) -> Decode:
    if name[0] == "cells":
        return cell_decoder(name[1], bool(name[2]))
    return _DECODERS[tuple(name)]


def rebuilt(recipe: Recipe, batches: Batches) -> Values:
    """The column, of those batches that are there."""
    if "chain" in recipe:
        return Chain([rebuilt(part, batches) for part in recipe["chain"]])
    if "missing" in recipe:
        return Missing(sum(batch.num_rows for _, batch in batches[recipe["missing"]]), None)
    if "folder" in recipe:
        return Files(rebuilt(recipe["names"], batches), Path(recipe["folder"]))
    decoders = [_decoder(name) for name in recipe["decode"]]
    there = batches[recipe["spool"]]
    cells = None if recipe["cells"] is None else _decoder(recipe["cells"])
    each = [decoders[number if len(decoders) > 1 else 0] for number, _ in there]
    return ArrowValues([batch.column(recipe["column"]) for _, batch in there], each, cells=cells)
