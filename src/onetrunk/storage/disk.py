"""Turns errors of the disk into plain errors for the user."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onetrunk.core.errors import ResourceError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a denied write inside it into a plain ResourceError."""
    try:
        yield
    except OSError as error:
        raise plain_error(error, path, 0) from error


def plain_error(error: OSError, path: Path, needs: int) -> Exception:
    """The error a person meets; one that is neither a full disk nor a denied write stays as it is."""
    if error.errno in FULL:
        existing = next(p for p in [path, *path.absolute().parents] if p.exists())
        free = shutil.disk_usage(existing).free
        least = f", at least {needs / 1e6:,.1f} MB needed" if needs else ""
        return ResourceError(
            f"No space to write {path}: {error.strerror}; {free / 1e6:,.1f} MB free{least}. "
            "Free some space or name another place; what was there is intact."
        )
    if error.errno in _DENIED:
        return ResourceError(f"Cannot write {path}: {error.strerror}. Name a place you may write to.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return UsageError(f"Cannot make the folder {path}: a file is in its way. Name another place.")
    return error
