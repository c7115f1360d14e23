"""Locks between processes of one machine, which end with the process that holds them, also by kill -9."""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from onetrunk.core.errors import UsageError
from onetrunk.storage.disk import disk_errors


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

    @property
    def in_place(self) -> bool:
        """Is the file that is held still that of its name? Who held it before may have removed it."""
        try:
            return self._file is not None and os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def tell(self, text: str) -> None:
        """Writes into the file, for others to read, who holds it."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(text.encode())
            self._file.flush()

    def remove(self) -> None:
        """Gives the lock back, and leaves no file: whoever takes it next makes a new one."""
        self.path.unlink(missing_ok=True)
        self.release()

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


# -- the folder that a run makes -------------------------------------------------------------------------------------
_held: dict[Path, tuple[FileLock, int]] = {}  # by the lock's file; and the process that took it, not a copy of it


@contextmanager
def locks_end() -> Iterator[None]:
    """Folders that are locked inside are unlocked at the end, however it ends."""
    before = set(_held)
    try:
        yield
    finally:
        _unlock([place for place in _held if place not in before])


def lock_folder(path: Path) -> None:
    """Keeps other processes from making the folder `path` (where links lead) until `locks_end`, or until this process
    ends, however it does.

    Raises UsageError that names the process that holds it; ResourceError where nothing can be written there.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    if lock.path in _held:
        return
    with disk_errors(path):
        while not lock.in_place:
            lock.release()
            if not lock.acquire(wait=False):
                raise UsageError(
                    f"Another run is writing to {path}: {_holder(lock.path)}. Wait for its end, stop it, or name "
                    "another --out."
                )
        lock.tell(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%F %T}")
    _held[lock.path] = lock, os.getpid()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200] or "it has just begun"
    except FileNotFoundError:
        return "it has just ended"


def _unlock(places: Sequence[Path]) -> None:
    """The first one last: where a kill leaves one behind, it is that which the same command takes, and removes."""
    for place in reversed(places):
        lock, owner = _held.pop(place)
        if owner == os.getpid():
            lock.remove()
        else:
            lock.release()


@atexit.register
def _unlock_all() -> None:
    _unlock(list(_held))
