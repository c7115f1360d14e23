"""predict for files: it goes on after a kill, and parts of a table are what the whole is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import worlds

import onetrunk
from onetrunk import cli
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.events import Collected, Note, RowsAnswered
from onetrunk.data.table import read
from onetrunk.inference import tables
from onetrunk.inference.answer_file import AnswerFile
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.inference.part_file import PartFile
from onetrunk.inference.tables import command_of, rows_of_shard, shard_of
from onetrunk.training.options import AnswerOptions
from onetrunk.training.prediction import run_prediction

ROWS, BLOCK = 90, 16


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder and a table, in which one value cannot be used."""
    place = tmp_path_factory.mktemp("files")
    table = {"size": [0.1 * i for i in range(ROWS)], "label": ["good" if i % 3 else "bad" for i in range(ROWS)]}
    made = worlds.model(table, {"size": "number", "label": "category"})
    made.tasks = [Task(["size"], ["label"])]
    made.save(place / "model")
    cells = [f"{x:.1f}" if i != 3 else "many" for i, x in enumerate(table["size"])]
    lines = [f'{x},"row {i}, quoted"' for i, x in enumerate(cells)]
    (place / "rows.csv").write_text("\n".join(["size,note", *lines]) + "\n")
    return place


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ANSWERED_AT_ONCE", BLOCK)


def predict(place: Path, out: Path, **more: Any) -> Collected:
    events = Collected()
    options = AnswerOptions(out=str(out), max_bad=0.5, **more)
    run_prediction(str(place / "model"), str(place / "rows.csv"), options, events)
    return events


def stop_at(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Killed before this block is answered."""
    answer, calls = Model.answer, []

    def killed(self: Model, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == block:
            raise Killed
        return answer(self, *arguments, **keywords)

    monkeypatch.setattr(Model, "answer", killed)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("block", [1, 2, 6])
def test_the_same_command_goes_on_and_the_bytes_are_the_same(
    place: Path, tmp_path: Path, suffix: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    told = [str(event) for event in predict(place, whole) if "Ledger" in type(event).__name__]
    out.write_text("what was there")
    with monkeypatch.context() as patch:
        stop_at(patch, block)
        with pytest.raises(Killed):
            predict(place, out)
    assert out.read_text() == "what was there", "nothing is replaced before all is written"
    if block > 1:  # half a block more than was committed
        (part,) = tmp_path.glob(f".out{suffix}.c*.tmp")
        with part.open("ab") as file:
            file.write(b"a torn line")
    events = predict(place, out)
    assert out.read_bytes() == whole.read_bytes()
    assert any("Going on" in note.message for note in events.of(Note)) == (block > 1)
    assert [e.rows for e in events.of(RowsAnswered)][:1] == [min(block, 6) * BLOCK if block < 6 else ROWS]
    assert [str(event) for event in events if "Ledger" in type(event).__name__] == told, "also of the earlier blocks"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, whole.name])


def test_kill_9_between_blocks(place: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    predict(place, whole)
    program = (
        "import os, sys, onetrunk\n"
        "from onetrunk.inference import tables, model_folder\n"
        f"tables.ANSWERED_AT_ONCE = {BLOCK}\n"
        "answer, calls = model_folder.Model.answer, []\n"
        "def killed(self, *a, **k):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 4: os.kill(os.getpid(), 9)\n"
        "    return answer(self, *a, **k)\n"
        "model_folder.Model.answer = killed\n"
        "onetrunk.predict(sys.argv[1], sys.argv[2], out=sys.argv[3], max_bad=0.5, quiet=True)\n"
    )
    command = [sys.executable, "-c", program, str(place / "model"), str(place / "rows.csv"), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    events = predict(place, out)
    assert out.read_bytes() == whole.read_bytes()
    assert f"answered {3 * BLOCK} of {ROWS} rows" in " ".join(note.message for note in events.of(Note))


def test_another_command_begins_anew_and_removes_what_is_left(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Killed):
            predict(place, out)
    events = predict(place, out, coverage=0.8)
    assert not any("Going on" in note.message for note in events.of(Note))
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Killed):
            predict(place, out)
    rows, before = place / "rows.csv", (place / "rows.csv").stat()
    os.utime(rows, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert not any("Going on" in note.message for note in predict(place, out).of(Note)), "the table is another one"


def test_an_error_and_a_second_process_leave_nothing(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    rows = read({"x": list(range(40))})
    with pytest.raises(DataError), AnswerFile(out, rows, command="0" * 32) as file:
        file.append({"y": [1, 2]})
        raise DataError("bad")
    assert list(tmp_path.iterdir()) == []
    first, second = PartFile(out, "1" * 32), PartFile(out, "1" * 32)
    first.open()
    with pytest.raises(UsageError, match="Another process is writing"):
        second.open()
    first.close()
    second.open()
    second.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_parts_joined_are_the_whole(place: Path, tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"a{suffix}"
    predict(place, whole)
    for i in range(1, 4):
        predict(place, whole, shard=f"{i}/3")
    parts = [tmp_path / f"a-{i}-of-3{suffix}" for i in range(1, 4)]
    assert read([str(part) for part in parts]).columns == read(str(whole)).columns
    if suffix == ".jsonl":
        assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()
    if suffix == ".csv":
        lines = [part.read_bytes().splitlines(True) for part in parts]
        assert b"".join(lines[0] + lines[1][1:] + lines[2][1:]) == whole.read_bytes()


def test_parts_of_a_frame_keep_its_index(place: Path) -> None:
    import pandas as pd

    rows = pd.DataFrame({"size": [0.1 * i for i in range(40)]}, index=range(100, 140))
    got = [onetrunk.predict(str(place / "model"), rows, shard=f"{i}/2", quiet=True) for i in (1, 2)]
    assert pd.concat(got).equals(onetrunk.predict(str(place / "model"), rows, quiet=True))
    assert got[1].index[0] == 116


def test_which_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [rows_of_shard(ROWS, (i, 4)) for i in range(1, 5)] == [
        range(0, 16), range(16, 48), range(48, 64), range(64, 90),
    ]  # fmt: skip
    assert rows_of_shard(10, (2, 2)) == range(0, 10) and not rows_of_shard(10, (1, 2))
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="RANK and WORLD_SIZE"):
        shard_of("auto")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert shard_of("auto") == (3, 4) and shard_of(None) is None
    for wrong in ("0/4", "5/4", "1", "a/b", "1/0", "-1/4"):
        with pytest.raises(UsageError, match="from 1/8 to 8/8"):
            shard_of(wrong)


def test_each_process_of_torchrun_answers_its_part_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun starts them; there is nobody to meet."""
    for rank in range(2):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        words = ["predict", str(place / "model"), str(place / "rows.csv"), "--out", str(tmp_path / "a.jsonl")]
        monkeypatch.setattr(sys, "argv", ["onetrunk", *words, "--shard", "auto", "--max-bad", "0.5", "--quiet"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in (0, None)
    counts = [len(read(str(tmp_path / f"a-{i}-of-2.jsonl"))) for i in (1, 2)]
    assert counts == [48, 42]


def test_a_row_of_json_is_not_taken_for_a_file(place: Path, tmp_path: Path) -> None:
    row = json.dumps({"size": 1.0, "note": "why? " * 100})  # longer than a name may be, and with a pattern's sign
    run_prediction(str(place / "model"), row, AnswerOptions(out=str(tmp_path / "out.csv")), Collected())
    assert len(read(tmp_path / "out.csv")) == 1


def test_a_file_that_has_changed_among_several_is_another_command(place: Path, tmp_path: Path) -> None:
    """Also where its rows look as they did to the sample by which a table is known again."""
    model, rows = load(str(place / "model")), read({"size": [1.0]})
    (tmp_path / "a-1.csv").write_text("size\n1.0\n")
    (tmp_path / "a-2.csv").write_text("size\n2.0\n")
    command = command_of(model, rows, str(tmp_path / "a-*.csv"), {})
    assert command == command_of(model, rows, str(tmp_path / "a-*.csv"), {"out": "elsewhere.csv"})
    (tmp_path / "a-2.csv").write_text("size\n2.25\n")
    assert command != command_of(model, rows, str(tmp_path / "a-*.csv"), {})
