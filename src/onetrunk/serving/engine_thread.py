"""One thread that answers: it steps the sessions of all folders in turn, and nothing else touches them.

Requests come from other threads, as jobs; a job's future gets its answers. A future that is cancelled is forgotten
before the next tick, and its slots are free at once.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.inference.prefixes import PrefixStore
from onetrunk.inference.request import Request
from onetrunk.inference.session import Session
from onetrunk.model import FoundationModel
from onetrunk.serving.request_errors import busy, stopping
from onetrunk.serving.request_limits import PREFIX_BYTES

T = TypeVar("T")
_LANES = 32  # rows that are answered at once where each is answered alone
_LANE_SLOTS = 8  # that one of them may take: beams
_POLL_SECONDS = 0.2  # after which an idle engine looks whether it should end


class Lanes:
    """The sessions of one folder: one, in which rows share steps; or many, in which each row is alone, so that its
    answer is the same to the bit whatever else is asked (`repeatable`)."""

    def __init__(
        self,
        network: FoundationModel,
        slots: int,
        positions: int,
        repeatable: bool = False,
        prefix_bytes: int = PREFIX_BYTES,
    ) -> None:
        self.repeatable, self.positions = repeatable, positions
        self.prefix_store = PrefixStore(prefix_bytes)
        count, each = (_LANES, _LANE_SLOTS) if repeatable else (1, slots)
        self.sessions = [
            Session(network, slots=each, positions=positions, prefix_store=self.prefix_store) for _ in range(count)
        ]

    def free(self) -> Session | None:
        """One that takes a request now."""
        if not self.repeatable:
            return self.sessions[0]
        return next((session for session in self.sessions if not session.busy), None)


# Sees an answer that grows, after each tick, and once more when it is finished: the number of its request, what there
# is of it, and whether it is finished. What it returns is the answer as it stands if it should end here, else None.
Watch = Callable[[int, Answer, bool], Answer | None]


class Reading(ABC):
    """Rows that the engine itself encodes, just before they are answered: those that come at about one time and are
    alike are encoded together, which costs hardly more than one."""

    @property
    @abstractmethod
    def alike(self) -> Hashable:
        """Equal for rows that can be encoded together."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many answers are wanted."""

    @abstractmethod
    def read(self, others: Sequence[Any]) -> Sequence[Sequence[Request] | Exception]:
        """What sessions are asked of these rows and of each of the others, which are alike; or why they cannot be."""


@dataclass(eq=False)
class Job:
    """What one client asks of one folder: requests whose answers are wanted together, each row's in order."""

    lanes: Lanes
    rows: int  # answers that are wanted
    reading: Reading | None = None  # of which the requests are still to be made
    requests: Sequence[Request] = ()
    watch: Watch | None = None  # of requests of one row each
    future: Future[list[list[Answer]]] = field(default_factory=Future)
    answers: list[list[Answer | None]] = field(default_factory=list)
    open: int = 0  # rows without an answer
    running: list[tuple[Session, int]] = field(default_factory=list)  # and the number of the request in it

    def begin(self) -> None:
        """Its requests are known from now on."""
        counts = [len(_rows_of(request)) for request in self.requests]
        self.answers = [[None] * count for count in counts]
        self.open = sum(counts)


@dataclass
class _Call:
    """Work that is not a session's, done between two ticks."""

    work: Callable[[], Any]
    future: Future[Any]
    rows: int


@dataclass(frozen=True)
class _Piece:
    """What one session was asked of a job: which of its requests, and at which of its rows it begins."""

    job: Job
    index: int
    request: Request
    where: dict[int, int]  # a row's number in the store, to where its answer stands


def _rows_of(request: Request) -> np.ndarray:
    return np.arange(len(request.store.index)) if request.rows is None else request.rows


class Engine:
    """See the head of this file. `submit` and `call` may be used by any thread."""

    def __init__(self, queued_rows: int = 8192) -> None:
        self.queued_rows = queued_rows
        self.rows = 0  # that are answered, or wait
        self.answered_rows = 0
        self.ticks = 0
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Job | _Call | None] = queue.SimpleQueue()
        self._unread: list[Job] = []
        self._waiting: deque[_Piece] = deque()
        self._running: dict[tuple[int, int], _Piece] = {}  # by session and number
        self._jobs: dict[Job, None] = {}  # in the order they came
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="onetrunk-engine", daemon=True)

    def start(self) -> Engine:
        self._thread.start()
        return self

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Answers no more: what is still asked gets status 503. Returns when the thread has ended."""
        self._stopped.set()
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def submit(
        self, lanes: Lanes, requests: Sequence[Request], watch: Watch | None = None
    ) -> Future[list[list[Answer]]]:
        """The answers of each request, each in the order of its rows. `watch`, of requests of one row each, is called
        in the engine's thread, and should be quick. Raises RequestError 429 where too much waits."""
        return self._put(Job(lanes, sum(len(_rows_of(each)) for each in requests), None, requests, watch))

    def submit_rows(self, lanes: Lanes, reading: Reading) -> Future[list[list[Answer]]]:
        """As `submit`, of rows that are still to be encoded."""
        return self._put(Job(lanes, reading.count, reading))

    def _put(self, job: Job) -> Future[list[list[Answer]]]:
        self._count(job.rows)
        self._inbox.put(job)
        return job.future

    def call(self, work: Callable[[], T], rows: int = 1) -> Future[T]:
        """What `work` returns, which is done in the engine's thread: for what is no session's."""
        self._count(rows)
        future: Future[T] = Future()
        self._inbox.put(_Call(work, future, rows))
        return future

    def _count(self, rows: int) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise stopping()
            if self.rows and self.rows + rows > self.queued_rows:
                raise busy(f"{self.rows:,} rows are being answered already, of {self.queued_rows:,} that may wait.")
            self.rows += rows

    def _uncount(self, rows: int) -> None:
        with self._lock:
            self.rows -= rows

    # -- the thread --------------------------------------------------------------------------------------------------
    def _loop(self) -> None:
        try:
            while not self._stopped.is_set():
                self._take()
                self._forget_cancelled()
                self._read()
                self._begin()
                for session in self._busy():
                    self._step(session)
                self._show_watchers()
                self.ticks += 1
        finally:
            self._stopped.set()
            for job in list(self._jobs):
                self._end(job, stopping())
            while not self._inbox.empty():
                item = self._inbox.get()
                if item is not None:
                    _set_exception(item.future, stopping())

    def _take(self) -> None:
        """Everything that has come; while there is nothing to do it waits."""
        idle = not self._jobs
        while True:
            try:
                item = self._inbox.get(timeout=_POLL_SECONDS) if idle else self._inbox.get_nowait()
            except queue.Empty:
                return
            idle = False
            if isinstance(item, Job):
                self._accept(item)
            elif isinstance(item, _Call):
                self._work(item)

    def _accept(self, job: Job) -> None:
        self._jobs[job] = None
        if job.reading is None:
            self._queue(job)
        else:
            self._unread.append(job)

    def _read(self) -> None:
        """Encodes what has come, those together that are alike."""
        groups: dict[Hashable, list[tuple[Job, Reading]]] = {}
        for job in self._unread:
            if job in self._jobs and job.reading is not None:
                groups.setdefault(job.reading.alike, []).append((job, job.reading))
        self._unread.clear()
        for group in groups.values():
            (_, first), *others = group
            try:
                results = first.read([reading for _, reading in others])
            except Exception as error:  # a bug, or no memory: all of them hear of it
                results = [error] * len(group)
            for (job, _), result in zip(group, results, strict=True):
                if isinstance(result, Exception):
                    self._end(job, result)
                else:
                    job.requests = result
                    self._queue(job)

    def _queue(self, job: Job) -> None:
        job.begin()
        if not job.open:
            self._finish(job)
        for index, request in enumerate(job.requests):
            rows = _rows_of(request)
            pieces = [rows[i : i + 1] for i in range(len(rows))] if job.lanes.repeatable else [rows]
            first = 0
            for piece in pieces:
                alone = job.lanes.repeatable  # then what is drawn goes by the row itself, not by its number
                first_row = request.first_row + (int(rows[0]) - int(piece[0]) if alone and len(piece) else 0)
                where = {int(row): first + i for i, row in enumerate(piece)}
                first += len(piece)
                if len(piece):
                    self._waiting.append(_Piece(job, index, replace(request, rows=piece, first_row=first_row), where))

    def _work(self, call: _Call) -> None:
        try:
            if call.future.set_running_or_notify_cancel():
                call.future.set_result(call.work())
        except Exception as error:  # it is whose call it was who hears of it
            _set_exception(call.future, error)
        finally:
            self._uncount(call.rows)

    def _forget_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self._end(job, None)

    def _begin(self) -> None:
        """Pieces that a session is free for. Those of a folder whose sessions are all taken wait."""
        for _ in range(len(self._waiting)):
            piece = self._waiting.popleft()
            if piece.job not in self._jobs:  # forgotten, or failed
                continue
            session = piece.job.lanes.free()
            if session is None:
                self._waiting.append(piece)
                continue
            try:
                number = session.add(piece.request)
            except Exception as error:  # of this job alone: the session has only refused
                self._end(piece.job, error)
                continue
            self._running[id(session), number] = piece
            piece.job.running.append((session, number))

    def _busy(self) -> Iterator[Session]:
        lanes = dict.fromkeys(job.lanes for job in self._jobs)
        return iter([session for each in lanes for session in each.sessions if session.busy])

    def _step(self, session: Session) -> None:
        try:
            parts = session.step()
        except Exception as error:  # the session has forgotten every request: all who asked hear of it
            for key in [key for key in self._running if key[0] == id(session)]:
                if (piece := self._running.get(key)) is not None:
                    self._end(piece.job, error)
            return
        for part in parts:
            piece = self._running.get((id(session), part.request))
            if piece is not None:  # else its job has just ended
                self._watched(piece, part.row, part.answer, True)
                self._settle(session, part.request, piece, part.row, part.answer)

    def _settle(self, session: Session, number: int, piece: _Piece, row: int, answer: Answer) -> None:
        """A row has its answer."""
        job = piece.job
        if job not in self._jobs:
            return
        at = piece.where.pop(row)
        if job.answers[piece.index][at] is None:
            job.answers[piece.index][at] = answer
        job.open -= 1
        self.answered_rows += 1
        if not piece.where:
            del self._running[id(session), number]
            job.running.remove((session, number))
        if not job.open:
            self._finish(job)

    def _watched(self, piece: _Piece, row: int, answer: Answer, finished: bool) -> Answer | None:
        """What a watcher makes of an answer, if its job has one."""
        if piece.job.watch is None:
            return None
        try:
            ended = piece.job.watch(piece.index, answer, finished)
        except Exception as error:  # of this job alone
            self._end(piece.job, error)
            return None
        if ended is not None:
            piece.job.answers[piece.index][piece.where[row]] = ended
        return ended

    def _show_watchers(self) -> None:
        for job in [job for job in self._jobs if job.watch is not None]:
            for session, number in list(job.running):
                piece = self._running.get((id(session), number))
                if piece is None:  # its job has just ended
                    continue
                for row, answer in session.unfinished(number).items():
                    ended = self._watched(piece, row, answer, False)
                    if ended is not None:
                        session.remove(number)
                        self._settle(session, number, piece, row, ended)

    def _finish(self, job: Job) -> None:
        del self._jobs[job]
        self._uncount(job.rows)
        with suppress(InvalidStateError):  # cancelled in this very moment
            job.future.set_result([[answer for answer in answers if answer is not None] for answers in job.answers])

    def _end(self, job: Job, error: BaseException | None) -> None:
        """Forgets a job that gets no answers."""
        del self._jobs[job]
        self._uncount(job.rows)
        for session, number in job.running:
            session.remove(number)
            self._running.pop((id(session), number), None)
        job.running.clear()
        if error is not None:
            _set_exception(job.future, error)


def _set_exception(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):  # cancelled
        future.set_exception(error)
