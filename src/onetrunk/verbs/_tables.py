"""Rows in and answers out, for the verbs that use a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.folder import disk_errors
from onetrunk.data.table import Table, read


def read_rows(data: Any, network: bool) -> Table:
    """Anything `read` takes, or one row (or a list of rows) as JSON text."""
    if isinstance(data, str) and data.lstrip().startswith(("{", "[")):
        try:
            rows = json.loads(data)
        except ValueError as error:
            raise UsageError(f"The rows given as JSON are not valid JSON: {error}.") from None
        data = [rows] if isinstance(rows, dict) else rows
    return read(data, allow_network=network)


def nothing_given(expected: list[str], table: Table) -> DataError:
    """The error for a table that has none of the columns a model looks at."""
    return DataError(
        f"The table {table.source} has none of the columns to predict from: expected {', '.join(expected)}; found "
        f"{', '.join(table.names)}. If names differ, say so: --map {expected[0]}={table.names[0]}"
    )


def write_answers(frame: Any, out: Path) -> None:
    """Writes a table of answers by its suffix; arrays become PNG files in a folder beside it."""
    suffix = out.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"--out expects a .csv, .jsonl or .parquet file, found {out.name!r}.")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        frame = frame.copy()
        for name in frame.columns:
            if len(frame) and isinstance(frame[name].iloc[0], np.ndarray):
                frame[name] = _pictures(frame[name], out.with_suffix(""), name)
        if suffix == ".csv":
            frame.to_csv(out, index=False)
        elif suffix == ".jsonl":
            frame.to_json(out, orient="records", lines=True, force_ascii=False)
        else:
            frame.to_parquet(out, index=False)


def _pictures(arrays: Any, folder: Path, name: str) -> list[str]:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{i:04d}.png" for i in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    return [str(path) for path in paths]
