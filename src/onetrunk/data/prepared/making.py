"""Makes a prepared table's folder: reads files, then encodes columns, each shard once, by several processes.

What is finished is kept: after a kill the same call goes on with the files and shards that are left.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.content import Content
from onetrunk.core.encoder import Column, Encoder, reads_on
from onetrunk.core.errors import DataError, ModelFileError
from onetrunk.core.registry import column_types
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import cells_of
from onetrunk.data.prepared import crew
from onetrunk.data.prepared.columns import ColumnFiles, column_key, save_shard
from onetrunk.data.prepared.folder import BEGUN, ENCODED, FITTED, PREPARED, ROW_SPLITS, STAGED, part_folder
from onetrunk.data.prepared.parts import SHARD_BYTES, Part, Reading, Shard, fingerprint_of, keep_part
from onetrunk.data.prepared.table import REPEATED, KeptValues, PreparedTable, rows_digest
from onetrunk.data.split import SPLITS, Split
from onetrunk.data.store import encode_values
from onetrunk.data.table import Table
from onetrunk.storage.arrays import save_arrays
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.strict_json import read_json, write_json_whole

Progress = Callable[[str, int, int], None]  # what is done, how many of how many


# -- values ------------------------------------------------------------------------------------------------------------
def keep_values(
    sources: Sequence[Any],
    folder: Path,
    reading: Reading,
    processes: int,
    max_bad: float,
    ledger: Ledger,
    progress: Progress,
    shard_bytes: int = SHARD_BYTES,
) -> PreparedTable:
    """Reads every source that is not there yet. What cannot be read goes into the ledger, where it is at most a share
    of `max_bad` of all; else DataError."""
    whole = [_part(part_folder(folder, i), fingerprint_of(source, reading)) for i, source in enumerate(sources)]
    missing = [i for i, part in enumerate(whole) if part is None]
    jobs = [(sources[i], part_folder(folder, i), reading, shard_bytes) for i in missing]
    here = processes if all(isinstance(job[0], str | Path) for job in jobs) else 1  # a DataFrame is not sent about
    failed: dict[int, str] = {}
    done = len(sources) - len(missing)
    for k, reason in crew.each(keep_part, jobs, here, lambda job: f"read {job[0]}"):
        if reason is not None:
            failed[missing[k]] = reason
        done += 1
        progress("files read", done, len(sources))
        if len(failed) > max_bad * len(sources):  # nobody waits for the others
            raise DataError(_unreadable(failed, sources, max_bad))
    for _, reason in sorted(failed.items()):
        ledger.add(f"a file that cannot be read, left out: {reason}", "the table", bad=True)
    kept = [part_folder(folder, i) for i in range(len(sources)) if i not in failed]
    for left in set(kept[0].parent.iterdir()).difference(kept):  # by a kill, or of files that are no longer named
        shutil.rmtree(left, ignore_errors=True)
    return PreparedTable(folder, [Part.open(each) for each in kept], check=False)


def _part(folder: Path, fingerprint: list[Any]) -> Part | None:
    """The part that is there, where it was made of the same file and is whole."""
    try:
        part = Part.open(folder)
    except ModelFileError:
        return None
    if part.fingerprint != fingerprint or fingerprint[0] == "memory":
        return None
    return None if PreparedTable(folder.parents[1], [part]).damaged else part


def _unreadable(failed: Mapping[int, str], sources: Sequence[Any], max_bad: float) -> str:
    reasons = " ".join(failed[i] for i in sorted(failed)[:5])
    if len(sources) == 1:
        return reasons
    return (
        f"{len(failed):,} of {len(sources):,} files cannot be read; at most {max_bad:.2%} may be left out. {reasons} "
        "Mend or remove them, or allow more: --max-bad"
    )


# -- what is learnt and decided ----------------------------------------------------------------------------------------
def keep_fitted(
    prepared: PreparedTable, train: Table, columns: Sequence[Column], encoders: Mapping[str, Encoder],
    options: Mapping[str, dict[str, Any]],
) -> None:  # fmt: skip
    """What the encoders of these columns have learnt from the training rows."""
    fitted = []
    for key, encoder in encoders.items():
        names = [column.name for column in columns if column.key == key]
        first = train[names[0]]
        if not all(isinstance(train[name], KeptValues) for name in names) or not isinstance(first, KeptValues):
            continue
        own = dict(options.get(names[0], {}))
        fitted.append({
            "type": encoder.type_name, "options": own, "names": names, "rows": rows_digest(first),
            "knowledge": encoder.knowledge(),
        })  # fmt: skip
    with disk_errors(prepared.folder):
        write_json_whole(prepared.folder / FITTED, {"of": prepared.digest, "fitted": fitted})


def keep_split(prepared: PreparedTable, split: Split) -> None:
    numbers = np.full(len(prepared), -1, dtype=np.int8)
    for i, name in enumerate(SPLITS):
        numbers[split.indices()[name]] = i
    numbers[split.repeated] = REPEATED
    with disk_errors(prepared.folder):
        save_arrays(prepared.folder / ROW_SPLITS, {"split": numbers})


def finish(prepared: PreparedTable, made: dict[str, Any]) -> None:
    """From here on the folder is a table."""
    with disk_errors(prepared.folder):
        write_json_whole(prepared.folder / PREPARED, {**made, "parts": [part.number for part in prepared.parts]})
        (prepared.folder / BEGUN).unlink(missing_ok=True)


# -- encoded columns ---------------------------------------------------------------------------------------------------
def keep_encoded(
    prepared: PreparedTable,
    columns: Sequence[Column],
    encoders: Mapping[str, Encoder],
    processes: int,
    ledger: Ledger,
    progress: Progress,
) -> None:
    """Encodes every shard of these columns that is not there yet. The ledger is told of all rows."""
    keys = {column.name: column_key(column.name, encoders[column.key]) for column in columns}
    files = {name: ColumnFiles(prepared.folder / ENCODED / key, name) for name, key in keys.items()}
    for file in files.values():
        file.keep_whole(prepared.shards)
    staged = prepared.folder / STAGED
    _tell_workers(staged, prepared, columns, encoders)
    jobs: list[crew.Job] = []
    first = 0
    for i, shard in enumerate(prepared.shards):
        if left := [name for name, file in files.items() if len(file.shards) <= i]:
            jobs.append((i, left, first, shard.rows, staged))
        first += shard.rows
    done: dict[int, dict[str, Any]] = {}
    at, ended = 0, len(prepared.shards) - len(jobs)
    for k, counted in crew.each(_encode_shard, jobs, processes, lambda job: f"encode shard {job[0]}"):
        done[k] = counted
        ended += 1
        progress("shards encoded", ended, len(prepared.shards))
        while at in done:  # one behind the other, in their order
            i = jobs[at][0]
            for name, (entries, dropped) in done.pop(at).items():
                files[name].append(_staged(staged, i, keys[name]), prepared.shards[i], entries, dropped)
            at += 1
    _forget_opened()
    shutil.rmtree(staged)
    for name, file in files.items():
        _tell(name, file, prepared.shards, ledger)


def _tell_workers(
    staged: Path, prepared: PreparedTable, columns: Sequence[Column], encoders: Mapping[str, Encoder]
) -> None:
    """Writes what every process needs to know."""
    made = {
        "parts": [part.number for part in prepared.parts],
        "columns": {
            column.name: [column.type, encoders[column.key].options.model_dump(mode="json"), column.key]
            for column in columns
        },
        "knowledge": {key: encoder.knowledge() for key, encoder in encoders.items()},
    }
    with disk_errors(staged):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        write_json_whole(staged / FITTED, made)
    _forget_opened()


def _tell(name: str, file: ColumnFiles, shards: Sequence[Shard], ledger: Ledger) -> None:
    first, dropped = 0, Counter[str]()
    for made, shard in zip(file.shards, shards, strict=True):
        moved = [{**entry, "rows": [first + row for row in entry["rows"]]} for entry in made["ledger"]]
        ledger.merge(Ledger.parse(moved))
        dropped.update(made["dropped"])
        first += shard.rows
    for reason, n in dropped.items():
        ledger.add(reason, name, n=n)


def _staged(folder: Path, shard: int, key: str) -> Path:
    return folder / f"{shard:05}-{key}.safetensors"


# -- what a process does -----------------------------------------------------------------------------------------------
def _encode_shard(shard: int, names: Sequence[str], first: int, rows: int, staged: Path) -> dict[str, Any]:
    """Encodes and saves these columns' values in these rows; returns what the ledger counts of each."""
    encoders, values = _opened(staged)
    counted = {}
    for name in names:
        encoder, ledger, dropped = encoders[name], Ledger(), Counter[str]()
        column = cells_of(encoder, values[name])[first : first + rows]

        def bad(i: int, reason: str, name: str = name, ledger: Ledger = ledger) -> None:
            ledger.add(reason, name, i, bad=True)

        def count(content: Content, encoder: Encoder = encoder, dropped: Counter[str] = dropped) -> None:
            dropped.update(encoder.dropped(content))

        # What is dropped of a column that is read on another depends on that one: who trains on both counts it.
        content, there = encode_values(encoder, column, bad, None if reads_on(encoder) in encoders else count)
        save_shard(_staged(staged, shard, column_key(name, encoder)), content, there)
        counted[name] = (ledger.as_json(), dict(dropped))
    return counted


@lru_cache(maxsize=1)
def _opened(staged: Path) -> tuple[dict[str, Encoder], Mapping[str, Sequence[Any]]]:
    """The encoders of columns and the table, once in each process."""
    made = read_json(staged / FITTED)
    encoders = {}
    for name, (kind, options, key) in made["columns"].items():
        encoders[name] = column_types.get(kind).encoder(options)
        encoders[name].set_knowledge(made["knowledge"][key])
    parts = [Part.open(part_folder(staged.parent, number)) for number in made["parts"]]
    return encoders, PreparedTable(staged.parent, parts, check=False).columns()


def _forget_opened() -> None:
    _opened.cache_clear()
