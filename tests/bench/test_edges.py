"""The trials of `bench edges` find what they look for: each kind of fault, planted, is a check that does not hold."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import __main__ as command
from bench.trials import __main__ as trials
from bench.trials import attempts, kills, mutations
from bench.trials.attempts import Limits, attempt
from bench.trials.checks import Checks
from bench.trials.kills import Kills, Setting
from onetrunk.core.errors import DataError

pytest.importorskip("fcntl")


def refusing() -> None:
    raise DataError("no")


def too_much() -> int:
    return len(bytearray(1 << 30).replace(b"\0", b"\1"))  # more than a process that has done much may have free


def compute() -> None:
    while True:
        pass


ENDS: dict[str, tuple[Any, str]] = {
    "done": (lambda: 3, attempts.DONE),
    "refused": (refusing, attempts.REFUSED),
    "a fault": (lambda: {}["x"], attempts.TRACEBACK),
    "an exit": (lambda: exit(3), attempts.TRACEBACK),
    "a hang": (lambda: time.sleep(60), attempts.TOO_SLOW),
    "endless computing": (compute, attempts.TOO_SLOW),
    "a crash": (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
    "much memory": (too_much, attempts.TOO_LARGE),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_attempt_ends_as_it_does(name: str) -> None:
    work, kind = ENDS[name]
    outcome = attempt(work, Limits(seconds={"a hang": 0.1, "endless computing": 1.0}.get(name, 60.0), megabytes=20))
    assert outcome.kind == kind and (outcome.value == 3) == (name == "done")


def writes_three(place: Path) -> None:
    for i in range(3):
        (place / f"{i}.tmp").write_text("x")
        (place / f"{i}.tmp").rename(place / str(i))


def test_a_process_is_halted_right_before_each_of_its_file_operations(tmp_path: Path) -> None:
    left = []

    def before(operation: int) -> None:
        assert operation == len(left) + 1
        left.append(sorted(path.name for path in tmp_path.iterdir()))

    outcome = attempt(lambda: writes_three(tmp_path), watched=tmp_path, before=before)
    assert outcome.kind == attempts.DONE and outcome.operations == 6, "opened and renamed"
    assert left == [[], ["0.tmp"], ["0"], ["0", "1.tmp"], ["0", "1"], ["0", "1", "2.tmp"]]


def test_who_cannot_go_on_ends_the_process_that_waits(tmp_path: Path) -> None:
    def before(operation: int) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        attempt(lambda: writes_three(tmp_path), watched=tmp_path, before=before)
    assert not list(tmp_path.iterdir())


def unsafe() -> None:
    """Goes on wrongly where it was killed."""
    with Path("log").open("a") as file:
        file.write("begun\n")
    Path("answers.tmp").write_text("x")
    Path("answers.tmp").rename("answers")


def safe() -> None:
    Path("answers.tmp").write_text("x")
    Path("answers.tmp").rename("answers")


def test_what_a_kill_leaves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {}
    for name, work in (("safe", safe), ("unsafe", unsafe)):
        monkeypatch.setitem(kills.SETTINGS, name, Setting(work, made="answers"))
        checks = Checks(0)
        one = Kills(name, tmp_path, tmp_path / name, Limits(seconds=60.0), checks)
        whole = one.undisturbed()
        one.at_operations(whole, 1)
        assert checks.made["kills before a file operation"] == whole.operations
        failed[name] = [failure["detail"] for failure in checks.failures]
        if name == "safe":
            one.at_random(whole, 0)
            assert checks.made["kills at random"] == 1 and not checks.failures
    assert failed == {"safe": [], "unsafe": ["other bits in log"] * 2}


def test_what_several_processes_find_is_joined() -> None:
    one, other = Checks(0), Checks(0)
    one.add("a", "1", True, attempts.DONE)
    other.add("a", "2", False, attempts.REFUSED)
    one.worst, other.worst = {"a": 0.5}, {"a": 0.25, "b": 1.0}
    one.join(json.loads(json.dumps(other.as_json())))
    assert one.made == {"a": 2} and one.outcomes["a"] == {"done": 1, "refused": 1} and len(one.failures) == 1
    assert one.worst == {"a": 0.5, "b": 1.0}


def test_a_part_that_was_stopped_goes_on_with_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stops = tmp_path / "stops"

    def try_unit(name: str, checks: Checks, place: Path, limits: Limits, n: int) -> None:
        with (tmp_path / "tried").open("a") as file:
            file.write(name)
        if name == "b c" and stops.exists():
            raise ValueError("stopped")
        checks.add("a kind", name, name == "a", attempts.DONE)

    part = SimpleNamespace(prepare=lambda place: None, units=lambda **amounts: ["a", "b c"], try_unit=try_unit)
    monkeypatch.setitem(sys.modules, "bench.trials.fake", part)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["trials", "fake"])
    monkeypatch.setattr(trials.torch, "set_num_threads", lambda threads: None)
    (tmp_path / "kept").mkdir()
    places = {"place": str(tmp_path / "place"), "kept": str(tmp_path / "kept")}
    told = json.dumps({"seed": 0, "processes": 1, "limits": {}, "amounts": {"n": 1}} | places)

    def made() -> dict[str, Any]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(told))
        trials.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    stops.touch()
    with pytest.raises(ValueError, match="stopped"):
        made()
    stops.unlink()
    first, again = made(), made()
    assert first == again and first["made"] == {"a kind": 2} and len(first["failures"]) == 1
    assert (tmp_path / "tried").read_text() == "ab cb c"


def test_changed_files_are_changed_and_drawn_from_the_seed() -> None:
    whole = mutations.table_files()["csv"]
    told = {"a": [1, {"b": 2.5}], "c": {"d": "e"}}
    for i in range(50):
        one, again = (mutations.changed_bytes(whole, random.Random(i)) for _ in range(2))
        assert one == again
        first, second = (mutations.changed_json(told, random.Random(i)) for _ in range(2))
        assert json.dumps(first) == json.dumps(second)
    assert len({mutations.changed_bytes(whole, random.Random(i)) for i in range(50)}) > 40
    assert len({json.dumps(mutations.changed_json(told, random.Random(i))) for i in range(50)}) > 25
    assert told == {"a": [1, {"b": 2.5}], "c": {"d": "e"}}


def test_a_small_run_is_not_kept_and_wrong_amounts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["edges", "--quick", "--set", "kils=3"]) == 2
    assert "kils" in capsys.readouterr().err
    assert command.main(["adult", "--quick"]) == 2
    assert "no small run" in capsys.readouterr().err
