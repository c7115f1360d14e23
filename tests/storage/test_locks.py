"""Two runs never write to one folder: the second is refused and told who is there, and a killed one holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import onetrunk
from onetrunk.core.errors import DataError, UsageError
from onetrunk.storage.locks import lock_folder, locks_end

pytest.importorskip("fcntl")
_HOLD = """
import sys
from pathlib import Path
from onetrunk.storage.locks import lock_folder
lock_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
ROWS = {"x": [i * 37 % 101 / 7 for i in range(40)], "label": ["a", "b"] * 20}
QUICK = {"ask": ["label"], "quiet": True, "settings": ["size=nano", "finetune.steps=1", "train.tensorboard=false"]}


@contextmanager
def another_run(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to `path`; it ends, where it still runs, with this block."""
    run = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.communicate()


@pytest.mark.parametrize("verb", ["finetune", "train", "pretrain"])
def test_the_second_run_is_refused_and_told_who_is_there(verb: str, tmp_path: Path) -> None:
    out = tmp_path / "models" / "m"
    with another_run(out) as process:
        options = {k: v for k, v in QUICK.items() if verb != "pretrain" or k != "ask"}
        with pytest.raises(UsageError, match=rf"writing to .*/m: process {process.pid} on .*, since 20\d\d-"):
            getattr(onetrunk, verb)(ROWS, out=str(out), **options)
        assert not out.exists()
    assert list(out.parent.iterdir()) == [], "the lock goes with its process"


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "m"
    with another_run(out) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".m.lock"]
    onetrunk.finetune(ROWS, out=str(out), **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    with another_run(out), pytest.raises(UsageError, match="Another run is writing"):
        onetrunk.evaluate(str(out), ROWS, allow_equal_rows=True, quiet=True)
    onetrunk.evaluate(str(out), ROWS, allow_equal_rows=True, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_link_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with another_run(tmp_path / "real"), pytest.raises(UsageError, match=r"Another run is writing to .*/real"):
        onetrunk.finetune(ROWS, out=str(tmp_path / "link"), **QUICK)


def test_this_process_may_come_back(tmp_path: Path) -> None:
    """After an error the same program tries again."""
    with pytest.raises(DataError):
        onetrunk.finetune({"x": [1], "label": ["a"]}, out=str(tmp_path / "m"), **QUICK)
    with locks_end():
        lock_folder(tmp_path / "m")
        with locks_end():
            lock_folder(tmp_path / "m")  # a part of the same run
        assert (tmp_path / ".m.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    """Also where the first one's lock is removed while the second waits to look at it."""
    race = f"""
import sys, time
from pathlib import Path
from onetrunk.core.errors import UsageError
from onetrunk.storage.locks import lock_folder, locks_end
place, mark = Path({str(tmp_path / "m")!r}), Path({str(tmp_path / "mark")!r})
got = 0
end = time.monotonic() + 2
while time.monotonic() < end:
    try:
        with locks_end():
            lock_folder(place)
            mark.mkdir()  # fails where another holds it too
            mark.rmdir()
            got += 1
    except UsageError:
        pass
print(got)
"""
    runs = [subprocess.Popen([sys.executable, "-c", race], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert all(int(run.communicate()[0]) > 0 and run.returncode == 0 for run in runs)
