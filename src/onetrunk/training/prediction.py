"""A model's answers for a table, read from anywhere and written to a file: what the verbs predict and generate do."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

from onetrunk.core.answer import Sampling
from onetrunk.core.encoder import is_prompt
from onetrunk.core.errors import UsageError
from onetrunk.core.events import AnsweringEnded, LedgerLine, Listener, Note, RowsAnswered, Saved, ignore
from onetrunk.data.ledger import Ledger
from onetrunk.engine.runtime import Runtime, find_device
from onetrunk.inference.answer_file import AnswerFile
from onetrunk.inference.given import nothing_given, without
from onetrunk.inference.model_folder import Model, load
from onetrunk.inference.tables import (
    Columns,
    answers_in_blocks,
    check_out,
    command_of,
    drawn_columns,
    mark_of,
    read_rows,
    rows_of_shard,
    shard_name,
    shard_of,
    written_columns,
)
from onetrunk.media.marking import Mark
from onetrunk.training.open_data import check_map, missing_words, renamed
from onetrunk.training.options import AnswerOptions


def run_prediction(
    model: Model | str, data: Any, options: AnswerOptions, on_event: Listener = ignore
) -> pd.DataFrame | None:
    """Answers the asked columns for every row, in the rows' order and with the index of a DataFrame. With
    `options.prompted` answers continue the rows' own values of the asked column. With `options.out` rows and answers
    are written, too; of a table larger than memory they are then only there, and None is returned. The same command,
    given again after it was killed, goes on after the last block of rows that it wrote, and the file is the same; then
    too None is returned.
    """
    shard = shard_of(options.shard)
    out = None if options.out is None else shard_name(Path(options.out), shard)
    if out is not None:
        check_out(out)
    elif options.visible_label:
        raise UsageError("--visible-label is for what is written to files: name one with --out.")
    opened = _opened(model, options)
    check_map(opened, options.map)
    rows = read_rows(data, options.allow_network, missing_words(options, opened), options.separator)
    task, ledger = opened.task(options.ask, options.given), Ledger()
    table = opened.to_answer(renamed(rows, options.map), task.ask, ledger, options.max_bad)
    if opened.events is not None:  # what an asked column has seen is not its truth
        rows = table.without([*opened.whose(table), *(name for name in task.ask if name in table.columns)])
    for message in without(task.given, task.ask, table):
        on_event(Note(message))
    part = rows_of_shard(len(table), shard)
    if shard is not None and not part:
        on_event(
            Note(f"Part {shard[0]} of {shard[1]} has no rows: the table is shorter than {shard[1]} blocks of rows.")
        )
    command = None if out is None or isinstance(model, Model) else command_of(opened, rows, data, vars(options))
    blocks: list[Columns] = []
    mark = mark_of(opened, task.ask, options.producer, options.visible_label)
    drawn, texts = drawn_columns(opened, task.ask), written_columns(opened, task.ask)
    writer = None if out is None else AnswerFile(out, rows, drawn, mark, texts, command=command, first=part.start)
    with writer or nullcontext() as file:
        whole = out is None or not table.is_mapped  # else the answers too are more than memory should hold
        if file is not None and file.goes_on:
            done = file.first - part.start
            on_event(Note(f"Going on with {out}, where an earlier run answered {done:,} of {len(part):,} rows."))
            ledger, whole = Ledger.parse(file.beside), False
        left = part if file is None else range(file.first, part.stop)
        try:
            for block in answers_in_blocks(
                opened,
                table,
                task,
                _sampling(options),
                ledger,
                options.prompted,
                out,
                options.coverage is not None,
                left,
            ):
                count = len(next(iter(block.values())))
                left = left[count:]
                if file is not None:
                    file.append(block, ledger.as_json())
                if whole:
                    blocks.append(block)
                if count < len(part):
                    on_event(RowsAnswered(len(part) - len(left), len(part)))
        finally:
            on_event(AnsweringEnded())
        ledger.check(len(part), options.max_bad)
    for line in ledger.lines():
        on_event(LedgerLine(line))
    if file is not None:
        on_event(Saved(f"table of {len(part):,} answers, beside the rows' own columns,", str(out)))
        if file.left_out:
            on_event(Note(f"These columns are not written, because they are not text: {', '.join(file.left_out)}."))
    alike = isinstance(data, pd.DataFrame) and len(data) == len(table)  # not so of events, which became fewer rows
    index = data.index[part.start : part.stop] if alike else None
    return pd.DataFrame(_joined(blocks), index=index) if whole else None


def _joined(blocks: list[Columns]) -> Columns:
    """One under the other; a column that a part lacks is missing there."""
    names = dict.fromkeys(name for block in blocks for name in block)
    counts = [len(next(iter(block.values()))) for block in blocks]
    return {
        name: [v for block, n in zip(blocks, counts, strict=True) for v in block.get(name, [None] * n)]
        for name in names
    }


def run_generation(
    model: Model | str,
    data: Any,
    options: AnswerOptions,
    on_event: Listener = ignore,
    *,
    prompt: str | None = None,
    n: int = 5,
) -> pd.DataFrame | None:
    """Makes `n` values of a column for every given row, or from nothing where `data` is None; texts begin with
    `prompt`."""
    if n < 1:
        raise UsageError(f"--n expects 1 or more, found {n}.")
    opened = _opened(model, options)
    asked = opened.task(options.ask).ask
    rows: dict[str, list[Any]]
    if data is None:
        rows, given = {name: [None] * n for name in asked}, []
    else:
        table = opened.to_answer(read_rows(data, options.allow_network, opened.missing), asked, Ledger())
        rows = {name: [v for v in values for _ in range(n)] for name, values in table.columns.items()}
        given = [name for name in table.names if name in opened.columns and name not in asked]
        own = [is_prompt(opened.encoder(name), v) for name in asked for v in rows.get(name, []) if v is not None]
        if not given and not any(own):
            raise nothing_given([c for c in opened.columns if c not in asked], table)
    if prompt is not None:
        rows |= {name: [prompt] * len(next(iter(rows.values()))) for name in asked}
    options = options.but(ask=asked, given=given, prompted=prompt is not None)
    return run_prediction(opened, rows, options, on_event)


def _opened(model: Model | str, options: AnswerOptions) -> Model:
    Mark.of(options.producer, None)  # a name that cannot be written is refused before a model is read
    device = _own_device(options)
    find_device(device)  # a device that is not there is refused before a model is read
    opened = model if isinstance(model, Model) else load(model, device="cpu", allow_network=options.allow_network)
    Runtime.open(device).place(opened.network)
    return opened


def _own_device(options: AnswerOptions) -> str:
    """Of processes that torchrun started, each with its own part, each one has its own GPU where there are any."""
    device, local = options.device or "auto", os.environ.get("LOCAL_RANK", "")
    if options.shard == "auto" and local.isdecimal() and ":" not in device and find_device(device).type == "cuda":
        return f"cuda:{local}"
    return device


def _sampling(options: AnswerOptions) -> Sampling:
    return Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        max_length=options.max_length,
        guidance=options.guidance,
        steps=options.steps,
        seed=options.seed,
        beams=options.beams,
        coverage=0.9 if options.coverage is None else options.coverage,
    )
