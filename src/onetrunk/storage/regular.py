"""What a folder from elsewhere calls a file must be one: a pipe would be waited for, and a device never ends."""

from __future__ import annotations

import stat
from pathlib import Path

from onetrunk.core.errors import ModelFileError

RESTORE = "Restore it from a copy, or make the folder again."


def size_of_file(path: Path) -> int:
    """Its bytes. Raises ModelFileError where there is no file."""
    try:
        found = path.stat()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}. {RESTORE}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"{path} is no file. {RESTORE}")
    return found.st_size
