"""The names in a prepared table's folder, and how it is known."""

from __future__ import annotations

import os
from pathlib import Path

PREPARED, FITTED, ROW_SPLITS = "prepared.json", "fitted.json", "splits.safetensors"
VALUES, ENCODED, STAGED = "values", "encoded", "staged"
BEGUN = "begun.json"


def is_prepared(path: Path) -> bool:
    """Is it a prepared table's folder, finished or not?"""
    return any(os.path.isfile(path / name) for name in (PREPARED, BEGUN))


def part_folder(folder: Path, number: int) -> Path:
    return folder / VALUES / f"{number:05}"
