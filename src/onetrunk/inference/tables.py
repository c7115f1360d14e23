"""Rows in and answers out, for the verbs that use a model."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk import __version__
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.encoder import Encoder, FileAnswers, FreeText, is_generated, reads_on
from onetrunk.core.errors import ResourceError, UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.data.sources import sources_of
from onetrunk.data.table import Table, read
from onetrunk.inference.adapter import base_digest
from onetrunk.inference.answer_file import AnswerFile
from onetrunk.inference.model_folder import Model, Task, answer_columns
from onetrunk.media.marking import Mark
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.names import file_name

Columns = dict[str, list[Any]]

ANSWERED_AT_ONCE = 4096  # rows, with whatever else stands in them
_OF_NO_WEIGHT = ("out", "allow_network")  # for what the answers are
_SAMPLED_ROWS, _SAMPLED_CHARACTERS = 256, 200  # by which a table is known again


def read_rows(data: Any, network: bool, missing: Sequence[str] | None = None, separator: str | None = None) -> Table:
    """Anything `read` takes, or one row (or a list of rows) as JSON text."""
    if _is_json(data):
        try:
            rows = json.loads(data)
        except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
            raise UsageError(f"The rows given as JSON are not valid JSON: {error}.") from None
        data = [rows] if isinstance(rows, dict) else rows
    return read(data, allow_network=network, missing=missing, separator=separator)


def _is_json(data: Any) -> bool:
    return isinstance(data, str) and data.lstrip().startswith(("{", "["))


def check_out(out: Path, suffixes: Sequence[str] = (".csv", ".jsonl", ".parquet")) -> None:
    """Raises UsageError or ResourceError before any work where answers could not be written."""
    if out.suffix.lower() not in suffixes:
        *others, last = suffixes
        raise UsageError(f"--out expects a {', '.join(others)} or {last} file, found {out.name!r}.")
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if there == out if there.is_dir() else there != out:
        raise UsageError(f"--out {out}: {there} is a {'folder' if there.is_dir() else 'file'}; name another place.")
    if not os.access(there, os.W_OK):
        raise ResourceError(f"Cannot write {out}: Permission denied. Name a place you may write to.")


def command_of(model: Model, rows: Table, data: Any, options: Mapping[str, Any]) -> str:
    """Equal for a command given twice: the model, the options, and the table, as far as its files and some of its rows
    tell."""
    told = {name: value for name, value in options.items() if name not in _OF_NO_WEIGHT}
    sample = rows.sample(_SAMPLED_ROWS, "command")
    cells = {name: [str(value)[:_SAMPLED_CHARACTERS] for value in values] for name, values in sample.columns.items()}
    sources = [] if _is_json(data) else sources_of(data, allow_network=True) or [data]  # it was, if any is elsewhere
    paths = [Path(each) for each in sources if isinstance(each, str | os.PathLike)]
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    weights = None if model.folder is None else base_digest(model.folder)
    facts = [__version__, weights, told, len(rows), cells, files]
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def answers_in_blocks(
    model: Model,
    table: Table,
    task: Task,
    sampling: Sampling,
    ledger: Ledger,
    prompted: bool = False,
    out: Path | None = None,
    sets: bool = False,
    rows: range | None = None,
) -> Iterator[Columns]:
    """The answers to `ANSWERED_AT_ONCE` rows after the other, as columns, with `sets` conformal sets too; to all, or to
    those of `rows`, which are whole blocks (`rows_of_shard`). With `out`, what can be drawn on a row's own
    value (boxes on its picture) is drawn in a folder beside it, and a column more names the files."""
    rows = range(len(table)) if rows is None else rows
    for first in range(rows.start, rows.stop, ANSWERED_AT_ONCE):
        block = table.take(np.arange(first, min(first + ANSWERED_AT_ONCE, rows.stop)))
        columns = {name: list(values) for name, values in model.whose(block).items()}
        for name in task.ask:
            answers = model.answer(block, name, task.given, sampling, ledger, prompted, first)
            encoder = model.encoder(name)
            columns |= answer_columns(name, answers, encoder, sets=sets)
            on = reads_on(encoder)
            if out is not None and on is not None and on in block.columns:
                drawn = draw_answers(encoder, name, answers, list(block[on]), out, first)
                columns |= {f"{name} drawn": drawn} if any(drawn) else {}
        yield columns


def shard_of(shard: str | None) -> tuple[int, int] | None:
    """`2/8` as (2, 8); `auto` by what torchrun tells a process of itself. None where all rows are meant."""
    if shard is None:
        return None
    if shard == "auto":
        rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
        if not (rank.isdecimal() and size.isdecimal()):
            raise UsageError("--shard auto needs RANK and WORLD_SIZE in the environment, as torchrun sets them.")
        shard = f"{int(rank) + 1}/{size}"
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard expects which part of how many, from 1/8 to 8/8, or auto; found {shard!r}.")
    return int(number), int(count)


def rows_of_shard(rows: int, shard: tuple[int, int] | None) -> range:
    """The rows of one part of a table. Parts are of whole blocks, so that each row is computed with the rows that it
    would be computed with in the whole: to the bit the same."""
    if shard is None:
        return range(rows)
    (number, count), blocks = shard, -(-rows // ANSWERED_AT_ONCE)
    first, last = (blocks * each // count * ANSWERED_AT_ONCE for each in (number - 1, number))
    return range(min(first, rows), min(last, rows))


def shard_name(out: Path, shard: tuple[int, int] | None) -> Path:
    """answers.csv of part 2 of 8 is answers-2-of-8.csv."""
    return out if shard is None else out.with_name(f"{out.stem}-{shard[0]}-of-{shard[1]}{out.suffix}")


def drawn_columns(model: Model, names: Sequence[str]) -> dict[str, FileAnswers]:
    """Of some columns those whose answers are files of their own."""
    encoders = {name: model.encoder(name) for name in names}
    return {name: encoder for name, encoder in encoders.items() if isinstance(encoder, FileAnswers)}


def mark_of(model: Model, names: Sequence[str], producer: str | None = None, visible: bool = False) -> Mark | None:
    """What answers of these columns are marked with; None where all of them are decisions, and nothing is made."""
    mark = Mark.of(producer, None if model.folder is None else model.folder.name, visible)
    return mark if any(is_generated(model.encoder(name)) for name in names) else None


def written_columns(model: Model, names: Sequence[str]) -> list[str]:
    """Of some columns those whose answers are a person's words."""
    return [name for name in names if isinstance(model.encoder(name), FreeText)]


def write_answers(answers: Any, rows: Table, out: Path, drawn: Mapping[str, FileAnswers] | None = None) -> list[str]:
    """Writes a DataFrame of answers beside their rows (`AnswerFile`). Returns the own columns that were left out."""
    with AnswerFile(out, rows, drawn) as file:
        file.append({name: answers[name].tolist() for name in answers.columns})
    return file.left_out


def draw_answers(
    encoder: Encoder, name: str, answers: Sequence[Answer], on: Sequence[Any], out: Path, first: int = 0
) -> list[str | None]:
    """Writes each answer, drawn on its own value of `on`, as a PNG file in a folder beside `out`; None where it cannot
    be. They are numbered from `first`."""
    folder, paths = out.with_suffix(""), []
    with disk_errors(out):
        for i, (answer, value) in enumerate(zip(answers, on, strict=True), start=first):
            path, png = folder / f"{file_name(name)}-{i:04d}.png", encoder.show(answer.value, value).get("png")
            if png is not None:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(png))
            paths.append(None if png is None else str(path))
    return paths
