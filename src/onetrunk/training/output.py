"""Where a run puts its result: checked before any work."""

from __future__ import annotations

import shutil
from pathlib import Path

from onetrunk.core import folder as files
from onetrunk.core.errors import UsageError


def check_free(out: str | Path, overwrite: bool) -> None:
    """Raises UsageError before any work when the result could not be put at `out`; with `overwrite` clears the way."""
    place = Path(out)
    for path in (place, *place.parents):
        if path.is_file():
            raise UsageError(f"{path} is a file; name another --out.")
    finished = (place / files.MANIFEST).exists()
    if finished and not overwrite:
        raise UsageError(f"{place} already exists; name another --out or pass --overwrite.")
    if place.is_dir() and not finished and any(entry.name not in files.TRAINING for entry in place.iterdir()):
        raise UsageError(f"{place} holds other files and no model; name another --out.")
    if overwrite:
        for name in files.TRAINING:  # of the run that is replaced
            path = place / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
