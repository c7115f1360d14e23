"""Rows in and answers out, for the verbs that use a model."""

from __future__ import annotations

import base64
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder
from onetrunk.core.errors import DataError, ResourceError, UsageError
from onetrunk.core.folder import disk_errors
from onetrunk.core.names import file_name
from onetrunk.data.table import Table, read

_ACROSS, _MOST_ROWS = 10, 20  # of the picture of all pictures


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


def check_out(out: Path) -> None:
    """Raises UsageError or ResourceError before any work where answers could not be written."""
    if out.suffix.lower() not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"--out expects a .csv, .jsonl or .parquet file, found {out.name!r}.")
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if there == out if there.is_dir() else there != out:
        raise UsageError(f"--out {out}: {there} is a {'folder' if there.is_dir() else 'file'}; name another place.")
    if not os.access(there, os.W_OK):
        raise ResourceError(f"Cannot write {out}: Permission denied. Name a place you may write to.")


def write_answers(answers: Any, rows: Table, out: Path) -> list[str]:
    """Writes the rows' own columns, then the answers, by the file's suffix; answers that are arrays become PNG files,
    and sounds WAV files, in a folder beside it. An own column with an answer's name is what may be true: NAME_true.

    Returns the own columns that cannot stand in such a file (pictures in memory) and were left out.
    """
    import pandas as pd

    suffix = out.suffix.lower()
    columns, left_out = {}, []
    for name, values in rows.columns.items():
        if name in answers.columns and not any(v is not None for v in values):
            continue
        if all(isinstance(v, _PLAIN) for v in values):
            columns[f"{name}_true" if name in answers.columns else name] = [_cell(v, suffix) for v in values]
        else:
            left_out.append(name)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for name in answers.columns:
            found = answers[name].tolist()
            if found and isinstance(found[0], np.ndarray | bytes):
                found = _files(found, out.with_suffix(""), name)
            columns[name] = [_cell(v, suffix) for v in found]
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        if suffix == ".csv":
            frame.to_csv(out, index=False)
        elif suffix == ".jsonl":
            frame.to_json(out, orient="records", lines=True, force_ascii=False)
        else:
            _whole_types(frame).to_parquet(out, index=False)
    return left_out


_PLAIN = (str, bool, int, float, datetime.date, Path, list, dict, type(None))


def _cell(value: Any, suffix: str) -> Any:
    """A value as such a file can hold it and `read` takes it back."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime.date) and suffix != ".parquet":
        return value.isoformat()
    if isinstance(value, list | dict) and suffix == ".csv":
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _whole_types(frame: Any) -> Any:
    """Columns of one type; where values are of several, as text."""
    import pyarrow as pa

    for name in frame.columns:
        try:
            pa.array(frame[name], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            frame[name] = [None if v is None else str(v) for v in frame[name]]
    return frame


def draw_answers(
    encoder: Encoder, name: str, answers: Sequence[Answer], on: Sequence[Any], out: Path
) -> list[str | None]:
    """Writes each answer, drawn on its own value of `on`, as a PNG file in a folder beside `out`; None where it cannot
    be."""
    folder, paths = out.with_suffix(""), []
    with disk_errors(out):
        for i, (answer, value) in enumerate(zip(answers, on, strict=True)):
            path, png = folder / f"{file_name(name)}-{i:04d}.png", encoder.show(answer.value, value).get("png")
            if png is not None:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(png))
            paths.append(None if png is None else str(path))
    return paths


def _files(values: list[Any], folder: Path, name: str) -> list[str]:
    """WAV files are bytes already; arrays [H, W] or [H, W, 3] are pictures (NAME.png shows all of them), those of four
    axes moving ones."""
    from PIL import Image

    from onetrunk.media.image import sheet

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, value in enumerate(values):
        path = folder / f"{file_name(name)}-{i:04d}.{'wav' if isinstance(value, bytes) else 'png'}"
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            first, *rest = [Image.fromarray(a) for a in (value if value.ndim == 4 else value[None])]
            first.save(path, save_all=bool(rest), append_images=rest)
        paths.append(str(path))
    pictures = [value for value in values if isinstance(value, np.ndarray) and value.ndim < 4]
    if pictures and len({picture.shape for picture in pictures}) == 1:
        rows = [pictures[i : i + _ACROSS] for i in range(0, len(pictures), _ACROSS)][:_MOST_ROWS]
        Image.fromarray(sheet(rows)).save(folder / f"{file_name(name)}.png")
    return paths
