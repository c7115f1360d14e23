"""One run at a time writes to a folder: a lock beside it, which the system takes back however the run ends."""

from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from onetrunk.core.errors import UsageError
from onetrunk.storage.disk import disk_errors

try:
    import fcntl
except ImportError:  # not on Windows: there runs are not kept apart
    fcntl = None  # type: ignore[assignment]

_held: dict[Path, tuple[int, int]] = {}  # of this process: the lock's file, its descriptor, and who took it


@contextmanager
def locks_end() -> Iterator[None]:
    """What is locked inside is unlocked at the end, however it ends."""
    before = set(_held)
    try:
        yield
    finally:
        _unlock(set(_held) - before)


def lock_folder(path: Path) -> None:
    """Keeps other processes from writing to the folder `path` (where links lead) until `locks_end`, or until this
    process ends, however it does.

    Raises UsageError that names the process that holds it; ResourceError where nothing can be written there.
    """
    place = path.with_name(f".{path.name}.lock")
    if fcntl is None or place in _held:
        return
    with disk_errors(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 200).decode("utf-8", "replace").strip()
                os.close(descriptor)
                raise UsageError(
                    f"Another run is writing to {path}: {holder or 'it has just begun'}. Wait for its end, stop it, or "
                    "name another --out."
                ) from None
            if _is_still(place, descriptor):
                break
            os.close(descriptor)  # who held it removed the file in between
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%F %T}\n".encode())
    _held[place] = descriptor, os.getpid()


def _unlock(places: Iterable[Path]) -> None:
    for place in places:
        descriptor, owner = _held.pop(place)
        if owner == os.getpid():  # not a copy of the process that took it
            place.unlink(missing_ok=True)  # before it is let go: whoever takes it then makes a new one
        os.close(descriptor)


def _is_still(place: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(place), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@atexit.register
def _unlock_all() -> None:
    _unlock(list(_held))
