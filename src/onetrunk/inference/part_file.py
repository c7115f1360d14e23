"""A file that is written part by part, and appears when it is complete. The command that was killed while it wrote goes
on where it was, and the file is the same to the byte."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.storage.locks import FileLock, is_held

_COMMAND = "c"  # begins a name that is of a command, rather than of a process
_KEPT = 16  # letters of a command's digest in it


class PartFile:
    """What will be at `out`. With a `command`, equal for a command given twice, what was committed is found again:
    `state` is then what the last commit said. Without one it is only this process's."""

    def __init__(self, out: Path, command: str | None = None) -> None:
        self.out, self.command = out, command
        key = f"{os.getpid()}" if command is None else f"{_COMMAND}{command[:_KEPT]}"
        self.path = out.with_name(f".{out.name}.{key}.tmp")
        self.journal = self.path.with_suffix(".json")
        self.state: dict[str, Any] | None = None
        self._lock = FileLock(self.path)

    def open(self) -> None:
        """Makes the file, or finds it as it was last committed. Raises UsageError where another process writes it."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(self.out, self.path)
        while not self._lock.in_place:  # who held it before may have moved it to its place meanwhile
            self._lock.release()
            if not self._lock.acquire(wait=False):
                raise UsageError(
                    f"Another process is writing {self.out} with the same command: wait for it, or stop it."
                )
        self.state = self._left() if self.command is not None else None
        os.truncate(self.path, 0 if self.state is None else self.state["bytes"])

    def _left(self) -> dict[str, Any] | None:
        try:
            state = json.loads(self.journal.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there is none, or its writer was killed while it wrote the first
            return None
        whole = isinstance(state, dict) and state.get("command") == self.command
        return state if whole and 0 <= state.get("bytes", -1) <= self.path.stat().st_size else None

    def commit(self, **facts: Any) -> None:
        """What is in the file now stays, whatever happens: the same command goes on after it, and finds these facts in
        `state`."""
        if self.command is None:
            return
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
            size = file.seek(0, os.SEEK_END)
        fresh = self.journal.with_suffix(".json.new")
        with fresh.open("w", encoding="utf-8") as journal:
            json.dump({"command": self.command, "bytes": size, **facts}, journal)
            journal.flush()
            os.fsync(journal.fileno())
        fresh.replace(self.journal)

    def finish(self, instead: Path | None = None) -> None:
        """Puts the file in its place, or another one that was made of it."""
        (instead or self.path).replace(self.out)
        self.journal.unlink(missing_ok=True)
        if instead is not None:
            self._lock.remove()
        self._lock.release()

    def close(self) -> None:
        """Leaves what was committed for the same command; else nothing."""
        if self.command is None or not self.journal.exists():
            self.discard()
        self._lock.release()

    def discard(self) -> None:
        self.journal.unlink(missing_ok=True)
        self._lock.remove()


def _sweep(out: Path, own: Path) -> None:
    """Removes what other runs left beside `out`, which were killed, and are not the one that goes on now."""
    for path in out.parent.iterdir():
        match = re.fullmatch(
            re.escape(f".{out.name}.") + rf"(\d+|{_COMMAND}\w+)\.(?:tmp|json|json\.new|whole)", path.name
        )
        if match is None or path.name.startswith(own.stem + "."):
            continue
        part = out.with_name(f".{out.name}.{match[1]}.tmp")
        if not (_runs(int(match[1])) if match[1].isdecimal() else part.exists() and is_held(part)):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
