"""Prepares a table once, for all verbs: what the verb prepare does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.core.events import LedgerLine, Listener, Note, PartPrepared, Saved, ignore
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import fit_columns
from onetrunk.data.prepared import crew, making
from onetrunk.data.prepared.folder import BEGUN, ENCODED, FITTED, PREPARED, ROW_SPLITS, is_prepared
from onetrunk.data.prepared.parts import SHARD_BYTES, Reading, fingerprint_of
from onetrunk.data.prepared.table import KeptValues, PreparedTable
from onetrunk.data.sources import sources_of
from onetrunk.data.table import Table
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.locks import lock_folder, locks_end
from onetrunk.storage.strict_json import read_json, write_json_whole
from onetrunk.training.open_data import Data, open_data, question_of
from onetrunk.training.options import TrainingOptions
from onetrunk.training.recipe import recipe_of


@dataclass(frozen=True)
class Preparation:
    """What was prepared: the folder, its rows, the rows of each split, the columns that are encoded, the ledger."""

    folder: str
    rows: int
    splits: dict[str, int]
    columns: dict[str, str]
    ledger: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@locks_end()
def run_preparation(
    data: Any,
    options: TrainingOptions,
    on_event: Listener = ignore,
    *,
    processes: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Preparation:
    """Reads a table's files, decides types, roles and splits, fits encoders on the training rows (or takes those of the
    model `options.start`), encodes every row, and leaves it all in the folder `options.out`, which every verb takes in
    place of the files. `processes` work on it, by default one a core. What an earlier, unfinished run of it finished is
    kept."""
    count = crew.cores() if processes is None else processes
    if count < 1:
        raise UsageError(f"--workers expects 1 or more, found {processes}.")
    recipe, folder = recipe_of(options), Path(options.out)
    if recipe.events is not None:
        raise UsageError("prepare keeps a table of rows as it is: give --events to the verb that takes the table.")
    encoders = None if options.start is None else _model_encoders(options)
    words = options.missing_words()
    reading = Reading(options.allow_network, None if words is None else tuple(words), options.separator)
    sources = sources_of(data, options.allow_network) or [data]
    lock_folder(folder.absolute())
    _begin(folder, [fingerprint_of(source, reading) for source in sources], options.overwrite)
    ledger = Ledger()

    def progress(what: str, done: int, of: int) -> None:
        if of > 1:
            on_event(PartPrepared(what, done, of))

    prepared = making.keep_values(sources, folder, reading, count, options.max_bad, ledger, progress, shard_bytes)
    table = Table(prepared.columns(), str(folder), notes=prepared.notes, tables=prepared.tables)
    opened = open_data(table, options, recipe, on_event)
    making.keep_split(prepared, opened.split)
    columns, fitted = _encoders(opened, encoders)
    making.keep_fitted(prepared, opened.rows("train"), columns, fitted, opened.options)
    kept = [column for column in columns if isinstance(opened.table.columns.get(column.name), KeptValues)]
    if others := [column.name for column in columns if column not in kept]:
        on_event(Note(f"These are made of objects in cells, and encoded by each verb: {', '.join(others)}."))
    used = {column.key: fitted[column.key] for column in kept}
    making.keep_encoded(prepared, kept, used, count, ledger, progress)
    ledger.merge(opened.ledger)
    ledger.check(len(table), options.max_bad)
    _finish(prepared, opened, options, recipe.columns, ledger)
    for line in ledger.lines():
        on_event(LedgerLine(line))
    on_event(Saved(f"table of {len(table):,} rows, prepared,", str(folder)))
    splits = {name: len(rows) for name, rows in opened.split.indices().items()}
    return Preparation(str(folder), len(table), splits, {c.name: c.type for c in kept}, ledger.as_json())


def _begin(folder: Path, sources: list[Any], overwrite: bool) -> None:
    """Raises UsageError where the folder is another's. What was encoded of other files is removed."""
    sources = json.loads(json.dumps(sources))
    if folder.exists() and not is_prepared(folder) and (folder.is_file() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds other files and no prepared table; name another --out.")
    before = None
    for name in (PREPARED, BEGUN):
        try:
            before = before or read_json(folder / name).get("sources")
        except ModelFileError:
            continue
    if before is not None and before != sources and (folder / PREPARED).exists() and not overwrite:
        raise UsageError(
            f"{folder} holds a table that was prepared of other files, or of others than they are now. Choose another "
            "--out, or replace it with --overwrite."
        )
    with disk_errors(folder):
        if before != sources:
            shutil.rmtree(folder / ENCODED, ignore_errors=True)
            for name in (FITTED, ROW_SPLITS):
                (folder / name).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_json_whole(folder / BEGUN, {"sources": sources})
        (folder / PREPARED).unlink(missing_ok=True)


def _model_encoders(options: TrainingOptions) -> tuple[list[Column], Mapping[str, Encoder]]:
    from onetrunk.inference.model_folder import load  # torch, which it imports, takes a second

    model = load(str(options.start), device="cpu", allow_network=options.allow_network)
    return list(model.columns.values()), model.network.encoders


def _encoders(
    data: Data, known: tuple[list[Column], Mapping[str, Encoder]] | None
) -> tuple[Sequence[Column], dict[str, Encoder]]:
    """A model's, for the columns that it has; else fitted on the training rows."""
    if known is None:
        columns, encoders = fit_columns(data.rows("train"), data.names, data.types, data.options)
        return columns, dict(encoders)
    of_model = [column for column in known[0] if column.name in data.table.columns]
    return of_model, {column.key: known[1][column.key] for column in of_model}


def _finish(
    prepared: PreparedTable, data: Data, options: TrainingOptions, columns: Mapping[str, Any], ledger: Ledger
) -> None:
    decided = {
        "question": question_of(options, columns), "types": data.types, "options": data.options, "given": data.given,
        "ask": data.ask, "reasons": data.reasons, "how": data.split.how, "equal_across": data.split.equal_across,
        "notes": data.split.notes,
    }  # fmt: skip
    sources = read_json(prepared.folder / BEGUN)["sources"]
    making.finish(prepared, {"sources": sources, "decided": decided, "ledger": ledger.as_json()})
