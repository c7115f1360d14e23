"""The command as a process: its first line and Ctrl-C come at once, whatever the terminal and its encoding are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import onetrunk
from onetrunk.core.terminal import ascii_json, json_line

COMMAND = [sys.executable, "-m", "onetrunk"]
# What is done when PyTorch begins to be imported, which takes the longest of all at the start.
AT_TORCH = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            {}
sys.meta_path.insert(0, Finder())
from onetrunk.__main__ import main
sys.argv = ["onetrunk", "train", "data.csv", "--ask", "房价"]
main()
"""
ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "plain C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "gb18030": {"PYTHONIOENCODING": "gb18030"},
    "no such locale": {"LC_ALL": "xx_YY.nothing", "COLUMNS": "1", "TERM": "dumb"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Chinese table and a model of it, made where the terminal holds ASCII only."""
    folder = tmp_path_factory.mktemp("terminal")
    rows = [f"{20 + i % 41},{'好' if i % 3 else '差'}房间🙂{i},{'高' if i % 3 else '低é'}" for i in range(80)]
    (folder / "data.csv").write_text("\n".join(["面积,备注,房价", *rows]) + "\n", encoding="utf-8")
    made = run(
        folder, "train", "data.csv", "--ask", "房价", "--out", "模型", "--size", "nano",
        "--set", "pretrain.steps=2", "--set", "finetune.steps=2", LC_ALL="C", PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert b"Traceback" not in made.stderr
    return folder


def run(folder: Path, *words: str, command: list[str] = COMMAND, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*command, *words], cwd=folder, env={**os.environ, **env}, capture_output=True, timeout=120)


def started(folder: Path, at_torch: str) -> subprocess.CompletedProcess[bytes]:
    (folder / "data.csv").write_text("面积,房价\n1,2\n", encoding="utf-8")
    return run(folder, command=[sys.executable, "-c", AT_TORCH.format(at_torch)])


def test_the_first_line_comes_before_what_is_slow(tmp_path: Path) -> None:
    done = started(tmp_path, "sys.exit('PyTorch comes now')")
    assert done.stderr.decode() == "Reading data.csv ...\nPyTorch comes now\n"


@pytest.mark.parametrize(("words", "completed"), [("onetrunk tra", "train"), ("onetrunk train --bu", "--budget")])
def test_the_shell_completes_verbs_and_flags(tmp_path: Path, words: str, completed: str) -> None:
    asked = {"_ONETRUNK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert run(tmp_path, **asked).stdout.decode().split() == [completed]


def test_the_script_of_completion_is_of_the_command_and_not_of_how_python_was_called(tmp_path: Path) -> None:
    shell = ["bash", "-c", '"$@"; exit $?', "bash"]  # which shell it is called from it finds out by itself
    done = subprocess.run([*shell, *COMMAND, "--show-completion"], capture_output=True, cwd=tmp_path)
    assert done.stdout.decode().rstrip().endswith("-F _onetrunk_completion onetrunk")


def test_ctrl_c_while_the_program_starts(tmp_path: Path) -> None:
    done = started(tmp_path, "os.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stdout) == (130, b"")
    assert done.stderr.decode() == "Reading data.csv ...\nonetrunk: stopped.\n"


def test_ctrl_c_ends_the_process_at_once(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n" + "".join(f"{i * 37 % 23},{i % 7}\n" for i in range(500)))
    words = ["train", "data.csv", "--ask", "b", "--size", "nano"]
    process = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"Rows: "):  # all is imported now, and taking it down in order would take its time
            break
    process.send_signal(signal.SIGINT)
    pressed = time.monotonic()
    rest = process.stderr.read().decode()
    assert process.wait() == 130
    assert rest.endswith("onetrunk: stopped.\n") and "Traceback" not in rest
    assert time.monotonic() - pressed < 2


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_answers_are_the_same_in_every_encoding(place: Path, encoding: str) -> None:
    done = run(place, "predict", "模型", "data.csv", "--json", **ENCODINGS[encoding])
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    written = done.stdout.decode("gb18030" if encoding == "gb18030" else "utf-8")
    expected = onetrunk.load(place / "模型").predict(str(place / "data.csv"))
    assert [json.loads(line)["房价"] for line in written.splitlines()] == expected["房价"].tolist()
    assert ("高" in written) == (encoding not in ("ascii", "plain C"))


def test_a_table_of_answers_where_the_terminal_lacks_their_signs(place: Path) -> None:
    done = run(place, "predict", "模型", "data.csv", PYTHONIOENCODING="ascii", COLUMNS="20", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert rb"\u9ad8" in done.stdout


def test_escapes_of_json() -> None:
    values = {"房价": "é🙂\u2028", "plain": 'a "b" \\u00e9'}
    line = ascii_json(json_line(values))
    assert line.isascii() and json.loads(line) == values


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams(place: Path, closed: str) -> None:
    """What is opened next must not get the number of a closed one: what is printed would be written there."""
    before = (place / "data.csv").read_bytes()
    command = f'exec "{sys.executable}" -m onetrunk predict 模型 data.csv --out answers.jsonl {closed}'
    done = run(place, command=["sh", "-c", command])
    assert done.returncode == 0, done.stderr
    assert (place / "data.csv").read_bytes() == before
    answers = (place / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in answers]) == 80


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_full_disk_behind_standard_output(place: Path) -> None:
    done = run(place, command=["sh", "-c", f'"{sys.executable}" -m onetrunk predict 模型 data.csv --json > /dev/full'])
    assert done.returncode == 6
    assert "onetrunk: The result cannot be printed" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
