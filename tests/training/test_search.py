"""A search over trials: its plan, its end, kills, several processes; all with trials that are arithmetic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

import searching
from searching import FIRST, SPACE, Arithmetic

from onetrunk.core.errors import DivergedError, MissingExtraError
from onetrunk.core.events import Collected, TrialDone
from onetrunk.storage.locks import FileLock, is_held
from onetrunk.training.search import JOURNAL, Search, Space
from onetrunk.training.trials import Outcome, Trial, TrialSettings, best


class Clock:
    """Told what time it is."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += 0.9 * seconds


def search(place: Path, runner: Any = None, seconds: float = 600.0, most: int | None = None, **rest: Any) -> Search:
    return Search(
        place / "search", rest.pop("space", SPACE), runner or Arithmetic(place, lambda s: None), seconds, most, **rest
    )


def start(place: Path, trials: int, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, searching.__file__, str(place), str(trials), str(seconds)])


# -- the plan --------------------------------------------------------------------------------------------------------
def test_what_comes_first_then_the_smallest_size_then_larger_ones(tmp_path: Path) -> None:
    runner, events = Arithmetic(tmp_path, lambda s: None), Collected()
    trials = search(tmp_path, runner, most=20, on_event=events).run()
    assert runner.made[:3] == FIRST and len(runner.made) == len(trials) == 20
    half = [settings.size for settings in runner.made[:10]]
    assert set(half) == {"nano"}, "the cheap size is searched first"
    larger = runner.made[10:12]
    assert [settings.size for settings in larger] == ["tiny", "small"]
    result = best([trial for trial in trials[:10] if trial.settings.method != "wide"]).settings
    assert (larger[0].method, larger[0].rate, larger[0].dropout) == (result.method, result.rate, result.dropout)
    assert {settings.size for settings in runner.made[13:]} == {"small"}, "what is left goes to the best size"
    heard = events.of(TrialDone)
    assert [event.number for event in heard] == list(range(20))
    assert [e.score for e in heard if e.is_best] == sorted({e.score for e in heard if e.is_best}, reverse=True)


def test_the_model_that_is_kept_is_the_best_trials(tmp_path: Path) -> None:
    trials = search(tmp_path, most=15).run()
    result = min(trials, key=lambda trial: trial.score)
    assert best(trials) == result and result.score < 1.2
    assert json.loads((tmp_path / "model").read_text()) == {"trial": result.number, "loss": result.score}
    assert result.steps == 7 and result.standard_error == 0.01 and result.score == searching.loss(result.settings)


def test_one_size_is_searched_alone(tmp_path: Path) -> None:
    space = Space(["tiny"], ["scratch"], [TrialSettings("scratch", "tiny", 1.0, 0.05)], [0.0, 0.05])
    trials = search(tmp_path, most=6, space=space).run()
    assert {trial.settings.size for trial in trials} == {"tiny"}
    assert trials[0].settings == space.first[0] and {t.settings.dropout for t in trials} <= {0.0, 0.05}


# -- the end ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [10.0, 100.0, 3600.0])
def test_it_ends_within_the_time(tmp_path: Path, seconds: float) -> None:
    clock = Clock()
    runner = Arithmetic(tmp_path, clock.work)
    trials = search(tmp_path, runner, seconds, clock=clock).run()
    assert 0.9 * seconds <= clock.now <= seconds
    assert len(trials) > 6 and max(runner.given) <= seconds / 6
    assert {trial.settings.size for trial in trials} == {"nano", "tiny", "small"}
    assert sum(trial.seconds for trial in trials) == pytest.approx(clock.now, abs=0.2)


def test_what_is_reserved_is_left(tmp_path: Path) -> None:
    clock = Clock()
    runner = Arithmetic(tmp_path, clock.work)
    runner.reserved = 30.0
    search(tmp_path, runner, 100.0, clock=clock).run()
    assert 60 <= clock.now <= 70


def test_one_trial_is_made_however_little_time_there_is(tmp_path: Path) -> None:
    clock = Clock()
    trials = search(tmp_path, Arithmetic(tmp_path, lambda s: clock.work(100)), 1.0, clock=clock).run()
    assert len(trials) == 1 and (tmp_path / "model").exists()


# -- trials that end otherwise ---------------------------------------------------------------------------------------
def test_what_is_worse_at_its_validations_is_stopped_early(tmp_path: Path) -> None:
    runner = Arithmetic(tmp_path, lambda s: None, validations=10)
    trials = search(tmp_path, runner, most=25).run()
    stopped = [trial for trial in trials if trial.state == "stopped early"]
    finished = [trial for trial in trials if trial.state == "finished"]
    assert len(stopped) > 5 and all(trial.score is None for trial in stopped)
    assert [trial.state for trial in trials[:3]] == ["finished"] * 3, "what comes first is made to its end"
    middle = sorted(searching.loss(trial.settings) for trial in stopped)[len(stopped) // 2]
    assert min(trial.score for trial in finished) < middle


def test_what_diverges_has_failed_and_others_go_on(tmp_path: Path) -> None:
    class Diverging(Arithmetic):
        def run(self, settings: TrialSettings, seconds: float, report: Any) -> Outcome:
            if settings.method == "scratch":
                raise DivergedError("a loss that is no number")
            return super().run(settings, seconds, report)

    trials = search(tmp_path, Diverging(tmp_path, lambda s: None), most=12).run()
    failed = [trial for trial in trials if trial.state == "failed"]
    assert failed and all(trial.note == "a loss that is no number" for trial in failed)
    assert len(trials) == 12 and len(failed) < 6, "the sampler learns to leave it"


def test_where_all_fail_it_ends(tmp_path: Path) -> None:
    class Failing(Arithmetic):
        def run(self, settings: TrialSettings, seconds: float, report: Any) -> Outcome:
            return Outcome(float("nan"), 0.0, 0)

    trials = search(tmp_path, Failing(tmp_path, lambda s: None)).run()
    assert len(trials) == 5 and best(trials) is None and not (tmp_path / "model").exists()


# -- kills, and several processes ------------------------------------------------------------------------------------
def test_a_killed_search_goes_on_after_the_trials_that_had_ended(tmp_path: Path) -> None:
    process = start(tmp_path, 10, 0.3)
    journal = tmp_path / "search" / JOURNAL
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _has_kept(tmp_path, 1):
        time.sleep(0.02)
    time.sleep(0.15)  # in the middle of the next one
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _trials(tmp_path)
    assert 1 <= len([trial for trial in before if trial.state == "finished"]) < 10
    with journal.open("ab") as file:  # as a kill in the middle of writing leaves it
        file.write(b'{"op_code": 4, "worker')
    runner = Arithmetic(tmp_path, lambda s: None)
    after = search(tmp_path, runner, most=10).run()
    finished = [trial for trial in after if trial.state == "finished"]
    assert len(finished) == 10 and len(runner.made) == 10 - len([t for t in before if t.state == "finished"])
    assert [trial for trial in after if trial in before and trial.state == "finished"] == [
        trial for trial in before if trial.state == "finished"
    ]
    assert {trial.settings.method for trial in finished[:3]} >= {"wide", "scratch"}, "what was cut off is made again"
    assert json.loads((tmp_path / "model").read_text())["trial"] == best(after).number


def _has_kept(place: Path, trial: int) -> bool:
    return (place / "model").exists() and f'"trial": {trial}' in (place / "model").read_text()


def _trials(place: Path) -> list[Trial]:
    return search(place).trials()


def test_a_model_that_was_kept_by_a_trial_that_could_not_say_so_counts(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Keeper(Arithmetic):
        def keep(self, outcome: Outcome, number: int) -> None:
            super().keep(outcome, number)
            raise Killed

    runner = Keeper(tmp_path, lambda s: None)
    one = search(tmp_path, runner, most=5)
    with pytest.raises(Killed):
        one.run()
    two = search(tmp_path, most=5)
    trials = two.run()
    assert trials[0].state == "finished" and trials[0].score == 1.5 and len(trials) == 5


def test_two_processes_share_one_search(tmp_path: Path) -> None:
    processes = [start(tmp_path, 12, 0.1) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    trials = _trials(tmp_path)
    assert len(trials) == 12 and all(trial.state == "finished" for trial in trials)
    first = [trial.settings for trial in trials if trial.settings in FIRST]
    assert sorted(map(str, first)) == sorted(map(str, FIRST)), "what comes first is made once"
    runs = {each.user_attrs["run"] for each in search(tmp_path).study.trials}
    assert len(runs) == 2, "both have made some"
    assert json.loads((tmp_path / "model").read_text())["trial"] == best(trials).number


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    lock = FileLock(path)
    assert lock.acquire() and is_held(path) and not FileLock(path).acquire(wait=False)
    waited = threading.Thread(target=lambda: FileLock(path).acquire())
    waited.start()
    lock.release()
    waited.join(timeout=10)
    assert not waited.is_alive()
    pid = os.fork()
    if pid == 0:
        held = FileLock(path)
        os._exit(0 if held.acquire() else 1)
    assert os.waitpid(pid, 0)[1] == 0 and not is_held(path)


def test_without_optuna_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'onetrunk\[tune\]'"):
        search(tmp_path)
