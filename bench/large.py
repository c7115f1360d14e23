"""Tables of gigabytes, and commands in processes of their own whose private memory is watched: what is mapped from
files is none."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT
from onetrunk.core.errors import UsageError

_POLLED = 0.2  # seconds
_WORDS, _WORDS_OF_ROW, _ROWS_AT_ONCE = 50_000, 300, 4000
TEXT_BYTES = 7 * _WORDS_OF_ROW  # of a row

Columns = Callable[[list[str], np.random.Generator], dict[str, Any]]


def write_table(
    path: Path, types: Mapping[str, Any], rows: int, seed: int, columns: Columns, compression: str = "none"
) -> Path:
    """CSV or Parquet (which alone is compressed), by its name; `columns` makes some rows of their texts, whose words
    are drawn by Zipf's law."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    dice, schema = np.random.default_rng(seed), pa.schema(list(types.items()))
    letters = np.array(list("aeiounrstlmdkpbgfvhz"))
    words = np.array(["".join(word) for word in letters[np.random.default_rng(0).integers(0, 20, (_WORDS, 6))]])
    text = path.suffix == ".csv"
    open_ = csv.CSVWriter if text else partial(parquet.ParquetWriter, compression=compression)
    with open_(path, schema) as writer:
        for first in range(0, rows, _ROWS_AT_ONCE):
            n = min(_ROWS_AT_ONCE, rows - first)
            drawn = words[np.minimum(dice.zipf(1.3, (n, _WORDS_OF_ROW)) - 1, _WORDS - 1)]
            writer.write_table(pa.table(columns([" ".join(row) for row in drawn.tolist()], dice), schema))
    return path


def watched(words: list[str], environment: Mapping[str, str]) -> tuple[float, int]:
    """Runs a command to its end: seconds, and the most private memory of it and its descendants, in bytes. Raises
    UsageError with its last words where it fails."""
    began, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **environment}, stdout=said, stderr=said)
        while process.poll() is None:
            peak = max(peak, _private(process.pid))
            time.sleep(_POLLED)
        seconds = time.monotonic() - began
        if process.returncode:
            said.seek(0)
            raise UsageError(f"{json.dumps(words)[:500]} failed: {said.read()[-2000:]}")
    return seconds, peak


def _private(pid: int, begun_by: bytes = b"") -> int:
    """Bytes of private memory of a process and its descendants. A process that has only just been begun still has its
    parent's command, and its parent's memory, which is not counted twice."""
    try:
        if (command := Path(f"/proc/{pid}/cmdline").read_bytes()) == begun_by:
            return 0
        status = Path(f"/proc/{pid}/status").read_text()
        own = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0)
        tasks = [
            Path(f"/proc/{pid}/task/{task}/children").read_text().split() for task in os.listdir(f"/proc/{pid}/task")
        ]
    except OSError:  # it has just ended
        return 0
    return own + sum(_private(int(child), command) for children in tasks for child in children)
