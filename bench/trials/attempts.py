"""One attempt in a process of its own: it cannot hang, fill the memory, or take the others with it.

A process is forked, so that PyTorch is loaded once. It can be killed from outside at any moment, or be halted right
before each of its file operations: what is on the disk then is what a kill would leave.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetrunk.core.errors import BadValueError, OnetrunkError, is_out_of_memory

DONE, REFUSED, TRACEBACK = "done", "refused", "a traceback"
TOO_SLOW, TOO_LARGE, KILLED = "too slow", "too large", "killed"
_WAITING = 10  # times as long
_LOOK = 0.002  # seconds between two looks at a process
_OPERATIONS = {  # what changes what is there
    "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Of one attempt."""

    seconds: float = 60.0  # of computing; ten times as many by the clock, for what waits
    megabytes: int = 1024  # more than the process had at its beginning


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: done, refused (with a plain message), a traceback, too slow, too large, killed, or the name
    of the signal that ended it."""

    kind: str
    value: Any = None  # what it gave back, as JSON
    said: str = ""  # the message, or the traceback
    seconds: float = 0.0
    operations: int = 0  # on files in the watched folder


def attempt(
    work: Callable[[], Any],
    limits: Limits = Limits(),
    *,
    watched: Path | None = None,
    before: Callable[[int], object] | None = None,
    die_after: float | None = None,
) -> Outcome:
    """Runs `work` in a fork, which halts right before each of its file operations in the folder `watched` until
    `before`, told its number (from 1), has returned here. `die_after`: it is killed so many seconds after its
    beginning."""
    descriptor, name = tempfile.mkstemp(prefix="outcome-")
    os.close(descriptor)
    report, started, resident = Path(name), time.monotonic(), _resident()
    gate = None if before is None else _Gate()
    child = os.fork()
    if child == 0:
        _run(work, limits, report, watched, gate)
    with suppress(OSError):  # it has done so itself
        os.setpgid(child, child)
    longest = min(_WAITING * limits.seconds, die_after or _WAITING * limits.seconds)
    try:
        status, used, halted = _wait(child, started + longest, gate, before)
    finally:
        if gate is not None:
            gate.close()
    seconds = time.monotonic() - started - halted
    text = report.read_text(encoding="utf-8")
    report.unlink()
    if status is None:
        return Outcome(TOO_SLOW if die_after is None else KILLED, seconds=seconds)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome(TOO_SLOW if number == signal.SIGXCPU else signal.Signals(number).name, seconds=seconds)
    told = json.loads(text)
    peak = used.ru_maxrss * 1024 - resident
    if told["kind"] != TRACEBACK and peak > limits.megabytes << 20:
        told |= {"kind": TOO_LARGE, "said": f"{peak >> 20:,} MB; {told['said']}"}
    return Outcome(seconds=seconds, **told)


class _Gate:
    """Two pipes, at which a fork waits to be let through."""

    def __init__(self) -> None:
        self._asked, self._ask = os.pipe()
        self._heard, self._tell = os.pipe()

    def wait(self) -> None:
        """In the fork."""
        os.write(self._ask, b".")
        os.read(self._heard, 1)

    def asked(self, seconds: float) -> bool:
        """Does it wait, or begin to within so many seconds?"""
        return bool(select.select([self._asked], [], [], seconds)[0])

    def open(self) -> None:
        os.read(self._asked, 1)
        os.write(self._tell, b".")

    def close(self) -> None:
        for end in (self._asked, self._ask, self._heard, self._tell):
            os.close(end)


def _wait(
    child: int, end: float, gate: _Gate | None, before: Callable[[int], object] | None
) -> tuple[int | None, Any, float]:
    """Its status, None where it had to be ended; what it used; and the seconds for which it was halted."""
    operations, halted = 0, 0.0
    try:
        while True:
            if gate is None or before is None:
                time.sleep(_LOOK)
            elif gate.asked(_LOOK):
                began = time.monotonic()
                operations += 1
                before(operations)
                halted += time.monotonic() - began
                gate.open()
            found, status, used = os.wait4(child, os.WNOHANG)
            if found:
                return status, used, halted
            if time.monotonic() > end + halted:
                _end(child)
                _, _, used = os.wait4(child, 0)
                return None, used, halted
    except BaseException:  # of `before`: the halted fork would wait for ever
        _end(child)
        os.wait4(child, 0)
        raise


def _end(child: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def _run(work: Callable[[], Any], limits: Limits, report: Path, watched: Path | None, gate: _Gate | None) -> None:
    """In the fork; it never comes back."""
    told: dict[str, Any] = {"kind": TRACEBACK, "value": None, "said": ""}
    calls = [0]
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        faulthandler.disable()  # it would write of a crash what the outcome says
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        most = _virtual() + (2 * limits.megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        longest = max(1, round(limits.seconds))
        resource.setrlimit(resource.RLIMIT_CPU, (longest, longest + 5))
        if watched is not None:
            _watch(watched, calls, gate)
        told |= {"kind": DONE, "value": work()}
    except (OnetrunkError, BadValueError) as error:
        told |= {"kind": REFUSED, "said": str(error)}
    except BaseException as error:  # also the panics of libraries, which are no Exception: an outcome like the others
        told |= {"kind": TOO_LARGE if is_out_of_memory(error) else TRACEBACK, "said": traceback.format_exc()[-3000:]}
    finally:
        report.write_text(json.dumps(told | {"operations": calls[0]}, default=str), encoding="utf-8")
        os._exit(0)


def _watch(place: Path, calls: list[int], gate: _Gate | None) -> None:
    """Counts this process's operations on files in `place`, and waits at the gate right before each."""
    inside = os.path.realpath(place)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _OPERATIONS or (event == "open" and _writes(arguments)):
            path = arguments[0]
            if isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(inside):
                calls[0] += 1
                if gate is not None:
                    gate.wait()

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    """Is it opened to be written?"""
    return bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
