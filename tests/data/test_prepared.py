"""Prepared tables: as the files that they were made of, encoded as ever, whole after a kill, honest about damage."""

from __future__ import annotations

import datetime
import hashlib
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from onetrunk.core.errors import DataError, LostProcessError, UsageError
from onetrunk.core.events import Collected, PartPrepared
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.prepared import crew, making
from onetrunk.data.prepared.mapping import FileArray
from onetrunk.data.prepared.table import PreparedTable, encoded_before
from onetrunk.data.table import Table, infer_types, read
from onetrunk.training.open_data import Data, open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.prepare_data import Preparation, run_preparation
from onetrunk.training.recipe import recipe_of

WORDS = "sea sand wind salt stone wave light shore boat rope".split()  # noqa: SIM905
ROWS, GROUP = 3000, 250
SHARD = 20_000  # bytes


def frame(n: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = np.array(WORDS)[rng.integers(0, len(WORDS), (n, 3))]
    made = pd.DataFrame({
        "note": [" ".join(row) for row in words.tolist()], "size": rng.normal(size=n).round(2),
        "code": [f"{i % 7:03}" for i in range(n)], "label": rng.choice(["a", "b"], n),
    })  # fmt: skip
    made.loc[::50, "size"] = None
    made.loc[::70, "note"] = None
    made.loc[: 4 * GROUP, "size"] = None  # all of a shard's
    return made


def prepare(data: Any, out: Path, processes: int = 1, **options: Any) -> Preparation:
    told = TrainingOptions(out=str(out), **{"ask": ["label"], "allow_equal_rows": True, **options})
    return run_preparation(data, told, processes=processes, shard_bytes=SHARD)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    whole = frame()
    for i in range(2):
        half = whole[i * ROWS // 2 : (i + 1) * ROWS // 2]
        table = pa.Table.from_pandas(half, preserve_index=False)
        with pa.ipc.new_file(str(folder / f"part-{i}.arrow"), table.schema) as writer:
            writer.write_table(table, GROUP)
    return folder


@pytest.fixture(scope="module")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "store"
    prepare(str(files / "*.arrow"), out)
    return out


def digests(folder: Path) -> dict[str, str]:
    """Of the arrays and values; what tells of the run (dates of files) is not compared."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".bin", ".arrow", ".safetensors")]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


# -- values --------------------------------------------------------------------------------------------------
def test_a_prepared_table_holds_what_its_files_hold(files, made):
    table, plain = read(made), read(str(files / "*.arrow"))
    assert len(PreparedTable.open(made, 0).shards) > 3 and PreparedTable.open(made, 0).shards[0].rows <= 4 * GROUP
    for name, values in plain.columns.items():
        assert list(table[name]) == list(values), name
    rows = np.array([2999, 3, 3, 1500])
    assert list(table.take(rows)["note"]) == list(plain.take(rows)["note"])


def _text(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_cells_stay_as_they_are_written_and_kinds_as_the_files_together_say(tmp_path):
    one = _text(tmp_path / "one.csv", "code,n,day,label\n007,1,2024-01-02,a\n008,2,2024-01-03,b\n,3,,a\n")
    two = _text(tmp_path / "two.csv", "code,n,day,label\n010,x,2024-02-02,b\n011,NA,2024-02-03,a\n")
    table, plain = PreparedTable.open, read([one, two])
    out = tmp_path / "store"
    making.keep_values([one, two], out, making.Reading(), 1, 0, Ledger(), lambda *_: None)
    parts = [making.Part.open(out / "values" / f"{i:05}") for i in range(2)]
    table = Table(PreparedTable(out, parts).columns())
    for name, values in plain.columns.items():
        assert list(table[name]) == list(values), name
        assert list(table[name].written) == list(getattr(values, "written", values)), name
    assert table["n"][0] == "1" and table["day"][0] == datetime.date(2024, 1, 2)


def test_columns_that_come_late_dates_of_a_workbook_and_names_of_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    lines = _text(
        tmp_path / "rows.jsonl", '{"x": [1, {"$day": "no tag"}]}\n{"x": null, "late": "b", "image": "a.png"}\n'
    )
    pd.DataFrame({"when": [datetime.datetime(2024, 1, 2, 3, 4), None], "x": [1.5, 2]}).to_excel(
        tmp_path / "book.xlsx", index=False
    )
    for source in (lines, str(tmp_path / "book.xlsx")):
        out, plain = tmp_path / Path(source).stem, read(source)
        kept = making.keep_values([source], out, making.Reading(), 1, 0, Ledger(), lambda *_: None)
        assert {name: list(values) for name, values in kept.columns().items()} == {
            name: list(values) for name, values in plain.columns.items()
        }


# -- encoded -------------------------------------------------------------------------------------------------
def _documents(store: Any, c: int) -> list[list[Any]]:
    content = store.contents[c].take(store.index[store.index[:, c] >= 0, c])
    arrays = content.gather()
    if not content.ragged:
        return [[name, array.tolist()] for name, array in sorted(arrays.items())]
    ends = np.cumsum(content.lens)[:-1]
    return [[name, [part.tolist() for part in np.split(array, ends)]] for name, array in sorted(arrays.items())]


def test_columns_are_encoded_as_without_it_and_not_again(files, made, monkeypatch):
    plain, table = read(str(files / "*.arrow")), read(made)
    types = infer_types(plain)
    train = np.flatnonzero(PreparedTable.open(made, 0).splits() == 0)
    names = ["note", "size", "code", "label"]
    columns, encoders = fit_columns(plain.take(train), names, types, {})
    mine, kept = fit_columns(table.take(train), names, types, {})
    assert columns == mine and all(kept[key].knowledge() == encoder.knowledge() for key, encoder in encoders.items())
    rows = np.random.default_rng(1).permutation(ROWS)[:1500]
    ledgers = Ledger(), Ledger()
    expected = encode(plain.take(rows), columns, encoders, ledgers[0])
    monkeypatch.setattr("onetrunk.data.prepare.encode_values", None)  # nothing is encoded
    found = encode(table.take(rows), columns, encoders, ledgers[1])
    for c in range(len(names)):
        assert ((expected.index[:, c] >= 0) == (found.index[:, c] >= 0)).all()
        assert _documents(expected, c) == _documents(found, c)
    assert ledgers[0].as_json() == ledgers[1].as_json()


def test_what_is_not_said_is_as_it_was_when_the_table_was_prepared(made):
    def opened(**options: Any) -> Data:
        told = TrainingOptions(out="unused", **options)
        return open_data(read(made), told, recipe_of(told))

    said = opened(ask=["label"], allow_equal_rows=True)
    left_out, other, other_seed = opened(), opened(ask=["code"]), opened(seed=1, allow_equal_rows=True)
    assert said.ask == left_out.ask == ["label"] and said.given == left_out.given
    assert other.ask == ["code"] and not other_seed.ask
    assert (left_out.split.test == said.split.test).all()
    assert set(other_seed.split.test.tolist()) != set(said.split.test.tolist())


def test_values_that_cannot_be_used_are_told_with_their_rows(tmp_path):
    numbers = ["1.5", "2", "much", "4"] * 50
    path = _text(tmp_path / "t.csv", "n,label\n" + "".join(f"{n},{'ab'[i // 4 % 2]}\n" for i, n in enumerate(numbers)))
    prepared = prepare(path, tmp_path / "store", types={"n": "number"}, max_bad=1.0)
    assert next(e for e in prepared.ledger if e["column"] == "n")["count"] == 50
    plain, table, ledgers = read(path), read(tmp_path / "store"), (Ledger(), Ledger())
    rows = np.arange(100, 200)
    columns, encoders = fit_columns(plain, ["n"], {"n": "number"}, {})
    for each, ledger in zip((plain, table), ledgers, strict=True):
        encode(each.take(rows), columns, encoders, ledger)
    assert ledgers[0].as_json() == ledgers[1].as_json() and ledgers[0].bad() == 25


# -- processes, and what a kill leaves -------------------------------------------------------------------------
def test_several_processes_make_the_same_bytes(files, made, tmp_path):
    prepare(str(files / "*.arrow"), tmp_path / "store", processes=2)
    assert digests(tmp_path / "store") == digests(made)


@pytest.mark.parametrize("after", [0, 2])
def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(files, made, tmp_path, monkeypatch, after):
    out, whole = tmp_path / "store", crew.each
    encoded: list[int] = []

    def stopped(function, jobs, processes, name):
        for number, result in whole(function, jobs, processes, name):
            if function is not making.keep_part:
                if len(encoded) == after:
                    raise KeyboardInterrupt
                encoded.append(number)
            yield number, result

    monkeypatch.setattr(crew, "each", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(str(files / "*.arrow"), out)
    with pytest.raises(DataError, match="not finished"):
        read(out)
    for path in out.glob("encoded/*/*.bin"):  # what a kill in the middle of a write leaves
        path.write_bytes(path.read_bytes() + b"half")
    jobs_done: list[int] = []

    def counted(function, jobs, processes, name):
        jobs_done.append(len(jobs))
        return whole(function, jobs, processes, name)

    monkeypatch.setattr(crew, "each", counted)
    prepare(str(files / "*.arrow"), out)
    shards = len(PreparedTable.open(out, 0).shards)
    assert jobs_done == [0, shards - after]
    assert digests(out) == digests(made)


def dies(place: str, times: int) -> int:
    """A job whose process is killed so many times."""
    counter = Path(place)
    so_far = len(counter.read_text()) if counter.exists() else 0
    if so_far < times:
        counter.write_text("x" * (so_far + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def test_a_job_whose_process_is_killed_is_done_again_once(tmp_path):
    jobs = [(str(tmp_path / "a"), 0), (str(tmp_path / "b"), 1)]
    assert sorted(crew.each(dies, jobs, 2, str)) == [(0, 7), (1, 7)]
    with pytest.raises(LostProcessError, match="that was to weigh it died twice"):
        list(crew.each(dies, [(str(tmp_path / "c"), 2), (str(tmp_path / "d"), 0)], 2, lambda job: "weigh it"))


# -- damage ----------------------------------------------------------------------------------------------------
def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_a_file_that_cannot_be_read_is_named_and_left_out_below_the_threshold(files, tmp_path):
    for path in files.glob("*.arrow"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = tmp_path / "part-2.arrow"
    broken.write_bytes(b"ARROW1 no more")
    with pytest.raises(DataError, match=r"1 of 3 files cannot be read; at most 1\.00%.*part-2\.arrow"):
        prepare(str(tmp_path / "*.arrow"), tmp_path / "store")
    made = prepare(str(tmp_path / "*.arrow"), tmp_path / "store", max_bad=0.4)
    assert made.rows == ROWS and len(read(tmp_path / "store")) == ROWS
    assert any("part-2.arrow" in entry["reason"] and entry["bad"] for entry in made.ledger)


def test_a_damaged_file_of_values_is_named_left_out_below_the_threshold_and_made_again(files, tmp_path):
    out = tmp_path / "store"
    prepare(str(files / "*.arrow"), out)
    kept = PreparedTable.open(out, 0)
    lost, before = kept.shards[1], digests(out)
    _flip(out / str(lost))
    with pytest.raises(DataError, match=f"1 of {len(kept.shards)} shards .* are damaged \\({lost}\\)"):
        read(out)
    table, plain = read(out, max_bad=0.9), read(str(files / "*.arrow"))
    first = kept.shards[0].rows
    there = np.delete(np.arange(ROWS), np.arange(first, first + lost.rows))
    assert table.row.tolist() == there.tolist()
    assert list(table["note"]) == list(plain.take(there)["note"])
    types = infer_types(plain)
    columns, encoders = fit_columns(plain.take(np.flatnonzero(kept.splits() == 0)), ["note"], types, {})
    some = np.arange(first - 5, first + 5)
    found = encode(table.take(some), columns, encoders, Ledger())
    assert _documents(found, 0) == _documents(encode(plain.take(there[some]), columns, encoders, Ledger()), 0)
    prepare(str(files / "*.arrow"), out)
    assert digests(out) == before


def test_a_damaged_encoded_column_is_encoded_again(files, tmp_path):
    out = tmp_path / "store"
    prepare(str(files / "*.arrow"), out)
    table = read(out)
    train = table.take(np.flatnonzero(PreparedTable.open(out, 0).splits() == 0))
    columns, encoders = fit_columns(train, ["note"], {"note": "text"}, {})
    assert encoded_before(table["note"], encoders["text"]) is not None
    for path in out.glob("encoded/*/content.id.bin"):
        _flip(path)
    again = read(out)
    assert encoded_before(again["note"], encoders["text"]) is None
    store = encode(again, columns, encoders, Ledger())
    assert _documents(store, 0) == _documents(encode(read(str(files / "*.arrow")), columns, encoders, Ledger()), 0)


# -- what is refused, and what is remembered ---------------------------------------------------------------------
def test_a_folder_of_other_files_or_of_another_table_is_not_touched(files, made, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        prepare(str(files / "*.arrow"), tmp_path)
    with pytest.raises(UsageError, match=r"other files.*--overwrite"):
        prepare(str(files / "part-0.arrow"), made)
    with pytest.raises(UsageError, match="No file matches"):
        prepare(str(files / "*.csv"), tmp_path / "store")


def test_the_same_command_again_finds_everything_there(files, made, monkeypatch):
    def nothing_left(function, jobs, processes, name):
        assert not jobs
        return iter(())

    monkeypatch.setattr(crew, "each", nothing_left)
    before = digests(made)
    prepare(str(files / "*.arrow"), made)
    assert digests(made) == before


def test_progress_is_told(files, tmp_path):
    heard = Collected()
    told = TrainingOptions(out=str(tmp_path / "s"), ask=["label"], allow_equal_rows=True)
    run_preparation(str(files / "*.arrow"), told, heard, processes=1, shard_bytes=SHARD)
    assert PartPrepared("files read", 2, 2) in heard
    encoded = heard.of(PartPrepared)[2:]
    assert [event.done for event in encoded] == list(range(1, encoded[0].of + 1))


def test_mapped_arrays_are_told_by_name_to_processes_of_this_machine_and_sent_to_others(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(np.arange(6000, dtype=np.int32).tobytes())
    array = FileArray.map(tmp_path / "a.bin", np.dtype(np.int32), (2000, 3))
    for size, least, most in (("2", 0, 1000), ("4", 24_000, 25_000)):
        monkeypatch.setenv("WORLD_SIZE", size)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        pickled = pickle.dumps(array, protocol=5)
        assert least < len(pickled) < most
        assert (pickle.loads(pickled) == np.arange(6000).reshape(2000, 3)).all()
    taken = array[5:7]
    assert type(taken) is np.ndarray and len(pickle.dumps(taken)) < 1000
