"""Locks between processes of one machine, which end with the process that holds them, also by kill -9."""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import TracebackType
from typing import IO, Self


class FileLock:
    """One holder at a time of the file `path`, which is made where it is missing. Not for two threads at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lock, and waits for it unless told otherwise. Is it held now?"""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return False
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_held(path: str | Path) -> bool:
    """Does a living process hold the lock of this file?"""
    lock = FileLock(path)
    if not lock.path.exists() or not lock.acquire(wait=False):
        return lock.path.exists()
    lock.release()
    return False
