"""How long threads that wait for each other keep their cores, between the parts of a step that run on all of them.

OpenMP lets them spin for some milliseconds before they sleep. On a machine that does nothing else that is the fastest;
but where another process has one of the cores, a thread that spins holds up the one that it waits for, and every step
takes three times as long. So somebody looks, a few times a second, at how much others compute: where they leave too few
cores, threads spin hardly at all, and where they stop, as long as before. What is computed is the same to the bit.

GNU's OpenMP, with which PyTorch comes on Linux, reads how long to spin only once, when it is loaded. But it spins 100
rounds instead of 300,000 as long as it has more threads than there are cores (`gomp_throttled_spin_count_var`, for
programs whose threads would else wait for a core that others spin on). So it is given some threads more, which sleep.
Other runtimes are left as they are, as is whoever says by environment variable how threads wait.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

SAYS_HOW = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # variables of whoever decides it
_EVERY = 0.25  # seconds between two looks
_MANY, _FEW = 0.35, 0.15  # cores that others take of those that ours need: from where on, and until where
_STAT, _MAPS = Path("/proc/stat"), Path("/proc/self/maps")
_IDLE = (3, 4)  # of a core's times in /proc/stat: idle, and waiting for a disk

_watch: threading.Thread | None = None


def watch_others() -> None:
    """From now on, once for this process. Nothing where it computes with one thread, or somebody has said how to wait,
    or the system does not tell what others compute."""
    global _watch
    told = _STAT.exists() and hasattr(os, "sched_getaffinity")
    if _watch is None and told and torch.get_num_threads() > 1 and not any(name in os.environ for name in SAYS_HOW):
        _watch = threading.Thread(target=_look, name="onetrunk-waiting", daemon=True)
        _watch.start()


def _look() -> None:
    """Ends where the system no longer tells."""
    few = FewSpins()
    with suppress(OSError):
        before = _clocks()
        while True:
            time.sleep(_EVERY)
            now = _clocks()
            seconds, everybody, own = (after - earlier for after, earlier in zip(now, before, strict=True))
            before, taken = now, (everybody - own) / seconds
            spare = len(os.sched_getaffinity(0)) - torch.get_num_threads()
            if taken > spare + _MANY or (few.on and taken > spare + _FEW):
                few.__enter__()
            else:
                few.close()


def _clocks() -> tuple[float, float, float]:
    """Seconds that have gone by, that the cores have computed, and that they have computed for this process."""
    return time.monotonic(), busy_seconds(), time.process_time()


def busy_seconds(stat: str | None = None, cores: set[int] | None = None) -> float:
    """For how long the cores that this process may use have computed since the machine began, for whomever: the sum
    over them, by the text of /proc/stat."""
    cores = os.sched_getaffinity(0) if cores is None else cores
    total = 0
    for core, rest in re.findall(r"^cpu(\d+) (.*)$", _STAT.read_text() if stat is None else stat, re.MULTILINE):
        times = [int(each) for each in rest.split()[:8]]  # beyond, of guests, who are in the first ones
        if int(core) in cores:
            total += sum(time_ for kind, time_ in enumerate(times) if kind not in _IDLE)
    return total / os.sysconf("SC_CLK_TCK")


class FewSpins:
    """As long as it is on, threads of every OpenMP of GNU that is loaded spin hardly at all."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._teams: list[threading.Event] = []

    @property
    def on(self) -> bool:
        return bool(self._teams)

    def __enter__(self) -> Self:
        """Also of those that were loaded since it was entered last."""
        new = _libraries() - self._held
        if new:
            self._teams.append(_sleeping_team(new))
            self._held |= new
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for ended in self._teams:
            ended.set()
        self._held, self._teams = set(), []


def _libraries() -> set[str]:
    """Of every OpenMP of GNU that this process has loaded: PyTorch and scikit-learn come with one each."""
    try:
        return set(re.findall(r"/\S*libgomp[^/\s]*\.so\S*", _MAPS.read_text(errors="replace")))
    except OSError:
        return set()


def _sleeping_team(libraries: set[str]) -> threading.Event:
    """Threads that do nothing, and go when the event is set: with those that compute, more than there are cores. A
    thread's team ends with it, so one is made for it."""
    made, ended = threading.Event(), threading.Event()
    more = max(2, len(os.sched_getaffinity(0)) - torch.get_num_threads() + 2)

    def hold() -> None:
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # which does nothing to a null pointer
        for path in libraries:
            with suppress(OSError, AttributeError):  # it is left as it is
                parallel = ctypes.CDLL(path).GOMP_parallel  # void (void (*)(void *), void *, unsigned, unsigned)
                parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_uint] * 2], None
                parallel(nothing, None, more, 0)
        made.set()
        ended.wait()

    threading.Thread(target=hold, name="onetrunk-team", daemon=True).start()
    made.wait()
    return ended
