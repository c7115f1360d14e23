"""A command that embeds a table and is killed goes on where it was, and the file is the same to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import worlds

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.events import Collected, Note, RowsAnswered
from onetrunk.inference import embeddings
from onetrunk.inference.model_folder import Task
from onetrunk.training.embedding import run_embedding
from onetrunk.training.options import AnswerOptions

BLOCK, ROWS = 4, 22


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    torch.manual_seed(0)
    table = {"size": [float(i) for i in range(ROWS)], "label": ["ab"[i % 2] for i in range(ROWS)]}
    made = worlds.model(table, {"size": "number", "label": "category"})
    made.tasks = [Task(["size"], ["label"])]
    made.save(folder / "model")
    cells = [str(i) if i != 3 else "many" for i in range(ROWS)]
    (folder / "rows.csv").write_text("\n".join(["size,note", *(f"{cell},row {cell}" for cell in cells)]) + "\n")
    return folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("inference.embeddings", "training.embedding"):
        monkeypatch.setattr(f"onetrunk.{module}.ANSWERED_AT_ONCE", BLOCK)


def embed(place: Path, out: Path, max_bad: float = 0.5, pool: str = "mean") -> tuple[np.ndarray, Collected]:
    events = Collected()
    options = AnswerOptions(out=str(out), max_bad=max_bad)
    found = run_embedding(str(place / "model"), str(place / "rows.csv"), options, events, pool=pool)
    return np.asarray(found), events


def stop_at(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Killed before this block is embedded."""
    encode, calls = embeddings.encode, []

    def killed(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == block:
            raise Killed
        return encode(*arguments, **keywords)

    monkeypatch.setattr(embeddings, "encode", killed)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("block", [1, 2, 6])
def test_the_same_command_goes_on(
    place: Path, tmp_path: Path, suffix: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    expected, events = embed(place, whole)
    told = [str(event) for event in events if "Ledger" in type(event).__name__]
    out.write_text("what was there")
    with monkeypatch.context() as patch:
        stop_at(patch, block)
        with pytest.raises(Killed):
            embed(place, out)
    assert out.read_text() == "what was there", "nothing is replaced before all is written"
    if block > 1:  # more than was committed
        (part,) = tmp_path.glob(".out*.c*.tmp")
        with part.open("ab") as file:
            file.write(b"torn")
    vectors, events = embed(place, out)
    assert out.read_bytes() == whole.read_bytes()
    np.testing.assert_array_equal(vectors, expected)
    assert np.isnan(vectors[3]).all() and np.isfinite(np.delete(vectors, 3, 0)).all()
    assert any(f"embedded {BLOCK * (block - 1)} of {ROWS} rows" in note.message for note in events.of(Note)) == (
        block > 1
    )
    assert [e.rows for e in events.of(RowsAnswered)][:1] == [min(block * BLOCK, ROWS)]
    assert [str(event) for event in events if "Ledger" in type(event).__name__] == told, "also of the earlier blocks"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, whole.name])


def test_a_command_killed_while_the_rows_are_written_does_not_embed_them_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("onetrunk.inference.answer_file.AnswerFile.append", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            embed(place, out)
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        vectors, _ = embed(place, out)
    frame = pd.read_parquet(out)
    assert len(frame) == ROWS == len(vectors) and frame["embedding"][0].dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_another_command_begins_anew(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Killed):
            embed(place, out)
    _, events = embed(place, out, pool="last")
    assert [e.rows for e in events.of(RowsAnswered)][:1] == [BLOCK]
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


def test_too_many_bad_values_leave_nothing(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        embed(place, tmp_path / "out.npy", max_bad=0.01)
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_is_refused_before_any_work(place: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.npy").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        embed(place, tmp_path / "taken.npy")


def test_a_wrong_way_to_pool_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown way to pool 'max'"):
        embed(tmp_path / "no-place", tmp_path / "out.npy", pool="max")
