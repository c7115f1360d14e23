"""Jobs for several processes: each is done once, and one whose process died is done again.

Processes are started afresh, not forked: the libraries that they use have threads. They take orders from this one
through a pipe, and end with it, however it ends.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from onetrunk.core.errors import LostProcessError

_PATIENCE = 600.0  # seconds without a sign of life
_ATTEMPTS = 2
Job = tuple[Any, ...]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    function: Callable[..., Any], jobs: Sequence[Job], processes: int, name: Callable[[Job], str]
) -> Iterator[tuple[int, Any]]:
    """(number, `function(*job)`) of every job, as they are done. With one process, or one job, in this one.

    `function` is one that a new process can import. What it raises ends all of it. Raises LostProcessError, with the
    job's `name`, where a job's process dies, or hangs, twice.
    """
    processes = min(processes, len(jobs))
    if processes <= 1:
        for number, job in enumerate(jobs):
            yield number, function(*job)
        return
    crew = _Crew(function, jobs, processes, name)
    try:
        yield from crew.results()
    finally:
        crew.dismiss()


class _Process:
    """One, and the two ends of its pipes."""

    def __init__(self) -> None:
        # One thread each: there are as many processes as cores.
        own = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "onetrunk.data.prepared.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | own,
            start_new_session=True,  # Ctrl-C is for the one that leads
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._jobs = Connection(os.dup(self._process.stdin.fileno()), readable=False)
        self._answers = Connection(os.dup(self._process.stdout.fileno()), writable=False)
        self._process.stdin.close()
        self._process.stdout.close()

    def ask(self, function: Callable[..., Any], job: Job) -> tuple[str, Any] | None:
        """The answer; None where the process is gone."""
        try:
            self._jobs.send((function, job))
            while self._answers.poll(_PATIENCE):
                kind, answer = self._answers.recv()
                if kind != "alive":
                    return kind, answer
        except (EOFError, OSError):
            pass
        return None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._jobs.close()
        self._answers.close()


class _Crew:
    def __init__(
        self, function: Callable[..., Any], jobs: Sequence[Job], processes: int, name: Callable[[Job], str]
    ) -> None:
        self._function, self._jobs, self._name = function, jobs, name
        self._waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._attempts = [0] * len(jobs)
        self._ended = False
        for number in range(len(jobs)):
            self._waiting.put(number)
        self._processes: set[_Process] = set()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(processes)]
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[tuple[int, Any]]:
        for _ in self._jobs:
            number, result = self._done.get()
            if isinstance(result, BaseException):
                raise result
            yield number, result

    def dismiss(self) -> None:
        """Ends every process."""
        self._ended = True
        for _ in self._threads:
            self._waiting.put(None)
        for process in list(self._processes):
            process.kill()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        """One process's jobs."""
        process: _Process | None = None
        try:
            while (number := self._waiting.get()) is not None and not self._ended:
                if process is None:
                    process = _Process()
                    self._processes.add(process)
                if (answer := process.ask(self._function, self._jobs[number])) is not None:
                    self._done.put((number, answer[1]))
                    continue
                self._processes.discard(process)
                process.end()
                process = None
                self._lost(number)
        except BaseException as error:  # also what is a bug is for the caller, who waits for an answer
            self._done.put((-1, error))
        finally:
            if process is not None:
                self._processes.discard(process)
                process.end()

    def _lost(self, number: int) -> None:
        self._attempts[number] += 1
        if self._attempts[number] < _ATTEMPTS or self._ended:
            self._waiting.put(number)
            return
        lost = LostProcessError(
            f"The process that was to {self._name(self._jobs[number])} died twice, or gave no sign of life for "
            f"{_PATIENCE:.0f} seconds: perhaps it was killed for want of memory. What is finished is kept, and the "
            "same command goes on from there; with fewer --workers it takes less memory."
        )
        self._done.put((number, lost))
