"""Looks for the best of many trials, within a time: Optuna's samplers and successive halving, over a journal on disk.

The journal outlives a kill: finished trials stay, and the same command goes on after them. Several processes may work
on one journal. The smallest size is searched first; the best that was found there is then tried at larger sizes, and
what time is left goes to the best size.
"""

from __future__ import annotations

import math
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from onetrunk.core.errors import DivergedError, MissingExtraError, ResourceError
from onetrunk.core.events import Listener, TrialDone, ignore
from onetrunk.storage.locks import FileLock, is_held
from onetrunk.training.trials import Method, Outcome, Report, State, StoppedEarly, Trial, TrialSettings, best

JOURNAL, LOCK = "journal.jsonl", "lock"
_RATES, _DECAYS = (0.2, 3.0), (1e-3, 0.3)  # between which they are drawn, on a log scale
_FIRST = "first"  # begins the names of trials that are made to their end: with them each method is compared
_FIRST_SHARE = 0.5  # of the time and of the trials: to search at the smallest size
_TRIAL_SHARE, _LARGER_SHARE = 1 / 12, 1 / 6  # of the time: at most for one trial
_LEAST_SHARE = 0.04  # of the time that must be left for a trial to be begun
_FAILURES = 5  # after which it ends, where nothing else has come
_REDUCTION = 3  # of successive halving: one in so many goes on
_SPARED = 2  # validations before it looks for the first time
_STATES: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "stopped early", "FAIL": "failed"}


@dataclass(frozen=True)
class Space:
    """What is searched: sizes from the smallest, methods, and what is tried first."""

    sizes: Sequence[str]
    methods: Sequence[Method]  # of those with a trunk
    first: Sequence[TrialSettings]
    dropouts: Sequence[float] = (0.0, 0.1, 0.2, 0.3)


class Runner(Protocol):
    """Makes and keeps models."""

    def run(self, settings: TrialSettings, seconds: float, report: Report) -> Outcome:
        """Makes a model within about so many seconds. Raises what `report` raises, DivergedError, ResourceError."""

    def keep(self, outcome: Outcome, number: int) -> None:
        """Puts the best model so far, of this trial, where it is to be left."""

    @property
    def kept(self) -> int | None:
        """The trial whose model is there."""

    @property
    def reserved(self) -> float:
        """Seconds that are to be left at the end, as far as is known by now."""


class Search:
    """`place` is the folder of the journal. Within `seconds` of the `clock`, less what the runner reserves, trials are
    made, at most so many as `most` says."""

    def __init__(
        self,
        place: Path,
        space: Space,
        runner: Runner,
        seconds: float,
        most: int | None = None,
        seed: int = 0,
        on_event: Listener = ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        optuna = _optuna()
        self.place, self.space, self.runner, self.most = place, space, runner, most
        self.seconds, self.on_event, self.clock = seconds, on_event, clock
        self.lock = FileLock(place / LOCK)
        self._name = uuid.uuid4().hex
        self._alive = FileLock(self._mark(self._name))
        with self.lock:
            _drop_torn_line(place / JOURNAL)
            journal = optuna.storages.journal
            backend = journal.JournalFileBackend(str(place / JOURNAL), cast(Any, FileLock(place / "journal.lock")))
            self.study = optuna.create_study(
                study_name="onetrunk", storage=optuna.storages.JournalStorage(backend), load_if_exists=True,
                pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=_SPARED, reduction_factor=_REDUCTION),
            )  # fmt: skip
            self._alive.acquire()
            self._sampler = optuna.samplers.TPESampler(seed=seed + len(self.study.trials), n_startup_trials=5)
        self._optuna, self._started = optuna, clock()

    # -- what a caller sees ------------------------------------------------------------------------------------------
    def run(self) -> list[Trial]:
        """Makes trials until the time or their number is spent; at least one of all. Returns all of the journal."""
        try:
            while (trial := self._next()) is not None:
                self._make(trial)
            return self.trials()
        finally:
            self._alive.release()
            self._mark(self._name).unlink(missing_ok=True)

    def trials(self) -> list[Trial]:
        """Those that have ended, of every process, in order."""
        return [_as_trial(each) for each in self._all() if each.state.name in _STATES]

    @property
    def others(self) -> bool:
        """Do other processes work on this journal?"""
        return any(is_held(mark) for mark in self.place.glob("run-*") if mark != self._mark(self._name))

    # -- the next one ------------------------------------------------------------------------------------------------
    def _next(self) -> Any:
        """A trial of this process, with all that it is made with; None at the end."""
        with self.lock:
            self._bury()
            ended = [each for each in self.trials() if each.state != "failed" or each.note]
            running = sum(each.state.name == "RUNNING" for each in self._all())
            if ended and self._left() < _LEAST_SHARE * self.seconds:
                return None
            if self._failing() or (self.most is not None and len(ended) + running >= self.most):
                return None
            planned = self._planned(ended)
            if planned is not None:
                key, settings = planned
                parameters = {} if settings.method == "wide" else settings.as_json()  # no sampler learns from it
                self.study.enqueue_trial(parameters, {"planned": key, "settings": settings.as_json()})
            with _quiet():
                self.study.sampler = self._sampler_of({} if planned else {"size": self._size(ended)})
                trial = self.study.ask()
                chosen = trial.user_attrs.get("settings")
                if chosen is None or chosen["method"] != "wide":
                    chosen = self._suggested(trial).as_json()
            trial.set_user_attr("settings", chosen)
            trial.set_user_attr("run", self._name)
            return trial

    def _planned(self, ended: Sequence[Trial]) -> tuple[str, TrialSettings] | None:
        """What has not been tried of what is to be tried at any rate, by name: what comes first, then the best so far
        at larger sizes."""
        tried = {each.user_attrs.get("planned") for each in self._all() if each.state.name != "FAIL"}
        wanted = {f"{_FIRST} {each.method}": each for each in self.space.first}
        best_so_far = _best_trunk(ended)
        if best_so_far is not None and self._late(ended):
            for size in self.space.sizes[1:]:
                wanted[f"larger {size}"] = replace(best_so_far.settings, size=size)
        return next(((key, each) for key, each in wanted.items() if key not in tried), None)

    def _size(self, ended: Sequence[Trial]) -> str:
        best_so_far = _best_trunk(ended)
        return self.space.sizes[0] if best_so_far is None or not self._late(ended) else best_so_far.settings.size

    def _late(self, ended: Sequence[Trial]) -> bool:
        """Is it time for larger sizes?"""
        share = 1 - self._left() / self.seconds
        if self.most:
            share = max(share, len(ended) / self.most)
        return share >= _FIRST_SHARE

    def _suggested(self, trial: Any) -> TrialSettings:
        """Drawn by the sampler, or as it was planned."""
        return TrialSettings(
            method=trial.suggest_categorical("method", list(self.space.methods)),
            size=trial.suggest_categorical("size", list(self.space.sizes)),
            rate=trial.suggest_float("rate", *_RATES, log=True),
            dropout=trial.suggest_categorical("dropout", list(self.space.dropouts)),
            weight_decay=trial.suggest_float("weight_decay", *_DECAYS, log=True),
        )

    def _sampler_of(self, fixed: dict[str, Any]) -> Any:
        return self._optuna.samplers.PartialFixedSampler(fixed, self._sampler) if fixed else self._sampler

    def _all(self) -> list[Any]:
        return self.study.get_trials(deepcopy=False)

    def _bury(self) -> None:
        """Trials whose process has died have failed; one whose model is kept had only not said so."""
        states = self._optuna.trial.TrialState
        for each in self._all():
            if each.state != states.RUNNING:
                continue
            run = each.user_attrs.get("run")
            if run is None or (run != self._name and not is_held(self._mark(run))):
                score = each.user_attrs.get("score")
                if score is not None and self.runner.kept == each.number:
                    self.study.tell(each.number, score)
                else:
                    self.study.tell(each.number, state=states.FAIL)

    def _failing(self) -> bool:
        """Have many trials failed, and none ended well?"""
        ended = self.trials()
        return sum(bool(each.note) for each in ended) >= _FAILURES and all(each.state == "failed" for each in ended)

    # -- one trial ---------------------------------------------------------------------------------------------------
    def _make(self, trial: Any) -> None:
        settings = TrialSettings(**trial.user_attrs["settings"])
        larger = settings.size != self.space.sizes[0] or settings.method == "wide"
        share = _LARGER_SHARE if larger else _TRIAL_SHARE
        began, seen, spared = self.clock(), 0, trial.user_attrs.get("planned", "").startswith(_FIRST)

        def report(loss: float) -> None:
            nonlocal seen
            seen += 1
            if math.isfinite(loss):
                trial.report(loss, seen)
                if not spared and trial.should_prune():
                    raise StoppedEarly

        try:
            outcome = self.runner.run(settings, max(1.0, min(share * self.seconds, self._left())), report)
            if not math.isfinite(outcome.score):
                raise DivergedError("its score is no number")
        except StoppedEarly:
            self._end(trial, began, "PRUNED")
        except (DivergedError, ResourceError) as error:
            trial.set_user_attr("error", str(error))
            self._end(trial, began, "PRUNED")  # not FAIL, from which the sampler would learn nothing
        except BaseException:
            self.study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            raise
        else:
            with self.lock:
                before = best(self.trials())
                trial.set_user_attr("score", outcome.score)
                if before is None or before.score is None or outcome.score < before.score:
                    self.runner.keep(outcome, trial.number)
                self._end(trial, began, "COMPLETE", outcome)

    def _end(self, trial: Any, began: float, state: str, outcome: Outcome | None = None) -> None:
        trial.set_user_attr("seconds", round(self.clock() - began, 2))
        if outcome is not None:
            trial.set_user_attr("standard_error", outcome.standard_error)
            trial.set_user_attr("steps", outcome.steps)
        value = None if outcome is None else outcome.score
        self.study.tell(trial, value, state=self._optuna.trial.TrialState[state])
        ended = self.trials()
        best_trial, done = best(ended), next(each for each in ended if each.number == trial.number)
        is_best = best_trial is not None and best_trial.number == done.number
        self.on_event(
            TrialDone(done.number, str(done.settings), done.state, done.score, is_best, done.seconds, done.note)
        )

    def _left(self) -> float:
        """Seconds."""
        return self.seconds - self.runner.reserved - (self.clock() - self._started)

    def _mark(self, run: str) -> Path:
        """The file that a process holds as long as it lives."""
        return self.place / f"run-{run}"


def _best_trunk(trials: Sequence[Trial]) -> Trial | None:
    return best([each for each in trials if each.settings.method != "wide"])


def _error_of(frozen: Any) -> str:
    """Why a trial failed; nothing where its process died."""
    return frozen.user_attrs.get("error", "")


def _as_trial(frozen: Any) -> Trial:
    attributes = frozen.user_attrs
    settings = TrialSettings(**attributes["settings"]) if "settings" in attributes else None
    return Trial(
        number=frozen.number,
        settings=settings or TrialSettings("wide", ""),
        state="failed" if _error_of(frozen) else _STATES[frozen.state.name],
        score=frozen.value if frozen.state.name == "COMPLETE" else None,
        standard_error=attributes.get("standard_error"),
        seconds=attributes.get("seconds", 0.0),
        steps=attributes.get("steps", 0),
        note=_error_of(frozen),
    )


def _drop_torn_line(journal: Path) -> None:
    """What a writer that was killed had begun to write: the last line, where it has no end."""
    if journal.exists() and (data := journal.read_bytes()) and not data.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
            os.fsync(file.fileno())


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna says what is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise MissingExtraError("optuna", "tune", "Tuning") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
