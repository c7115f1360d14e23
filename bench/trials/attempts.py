"""One attempt in a process of its own: it cannot hang, fill the memory, or take the others with it.

A process is forked, so that PyTorch is loaded once. It can be killed from outside at any moment, or by itself right
before any of its file operations.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
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
    die_before: int | None = None,
    die_after: float | None = None,
) -> Outcome:
    """Runs `work` in a fork. `die_before` kills it right before that file operation (from 1) in the folder `watched`,
    `die_after` so many seconds after its beginning."""
    descriptor, name = tempfile.mkstemp(prefix="outcome-")
    os.close(descriptor)
    report, started, before = Path(name), time.monotonic(), _resident()
    child = os.fork()
    if child == 0:
        _run(work, limits, report, watched, die_before)
    with suppress(OSError):  # it has done so itself
        os.setpgid(child, child)
    status, used = _wait(child, started + min(_WAITING * limits.seconds, die_after or _WAITING * limits.seconds))
    seconds = time.monotonic() - started
    text = report.read_text(encoding="utf-8")
    report.unlink()
    if status is None:
        return Outcome(TOO_SLOW if die_after is None else KILLED, seconds=seconds)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        planned = die_before is not None and number == signal.SIGKILL
        kind = TOO_SLOW if number == signal.SIGXCPU else KILLED if planned else signal.Signals(number).name
        return Outcome(kind, seconds=seconds)
    told = json.loads(text)
    peak = used.ru_maxrss * 1024 - before
    if told["kind"] != TRACEBACK and peak > limits.megabytes << 20:
        told |= {"kind": TOO_LARGE, "said": f"{peak >> 20:,} MB; {told['said']}"}
    return Outcome(seconds=seconds, **told)


def _wait(child: int, end: float) -> tuple[int | None, Any]:
    """Its status, None where it had to be ended; and what it used."""
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            return status, used
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            _, _, used = os.wait4(child, 0)
            return None, used
        time.sleep(0.002)


def _run(work: Callable[[], Any], limits: Limits, report: Path, watched: Path | None, die_before: int | None) -> None:
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
            _watch(watched, calls, die_before)
        told |= {"kind": DONE, "value": work()}
    except (OnetrunkError, BadValueError) as error:
        told |= {"kind": REFUSED, "said": str(error)}
    except BaseException as error:  # also the panics of libraries, which are no Exception: an outcome like the others
        told |= {"kind": TOO_LARGE if is_out_of_memory(error) else TRACEBACK, "said": traceback.format_exc()[-3000:]}
    finally:
        report.write_text(json.dumps(told | {"operations": calls[0]}, default=str), encoding="utf-8")
        os._exit(0)


def _watch(place: Path, calls: list[int], die_before: int | None) -> None:
    """Counts this process's operations on files in `place`, and dies right before one of them."""
    inside = os.path.realpath(place)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _OPERATIONS or (event == "open" and _writes(arguments)):
            path = arguments[0]
            if isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(inside):
                calls[0] += 1
                if calls[0] == die_before:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    """Is it opened to be written?"""
    return bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
