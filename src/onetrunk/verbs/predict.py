"""predict: answers for the rows of a table, with probabilities, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def predict(
    model: Any,
    data: Any,
    *,
    ask: list[str] | None = None,
    given: list[str] | None = None,
    prompted: bool = False,
    map: dict[str, str] | None = None,
    out: str | None = None,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    max_length: int = 256,
    beams: int = 1,
    guidance: float = 1.0,
    steps: int = 24,
    seed: int = 0,
    device: str = "auto",
    max_bad: float = 0.01,
    allow_network: bool = False,
    quiet: bool = False,
) -> Any:
    """Answer the asked columns for every row. Columns and values may be missing.

    Args:
        model: a model folder.
        data: a file, folder, DataFrame, dataset, or hf://name; or one row as JSON.
        ask: columns to answer; by default the folder's task.
        given: columns to look at; by default the task's.
        prompted: the rows' own values of the asked column are prompts, from which its answers go on (texts).
        map: model_column=table_column, where names differ.
        out: a .csv, .jsonl or .parquet file for the rows and their answers (pictures and sounds go in a folder beside).
        temperature: 0 answers the likeliest; higher varies more.
        top_k: draw among the k likeliest only; 0 is no limit.
        top_p: draw among the likeliest that make up this probability.
        max_length: tokens of a written answer at most.
        beams: search for the likeliest text or molecule, so many kept at once (4 is usual); 1 takes token by token.
        guidance: how strongly a drawing follows what is given; 1 is plain.
        steps: steps of a drawing.
        seed: of everything drawn.
        device: cpu, cuda, cuda:N or mps; auto is CUDA where there is one, else the CPU.
        max_bad: share of unusable values in a column from which it stops.
        allow_network: allow hf:// names to use the network.
        quiet: print nothing.

    Returns:
        A DataFrame in the rows' order, with the index of one that was given: for each asked column its answer,
        probability (and each class's) or interval. None where `out` has the answers of a table larger than memory.
    """
    from contextlib import nullcontext

    import pandas as pd

    from onetrunk.core.answer import Sampling
    from onetrunk.core.events import LedgerLine
    from onetrunk.data.ledger import Ledger
    from onetrunk.engine.runtime import Runtime
    from onetrunk.inference.answer_file import AnswerFile
    from onetrunk.inference.model_folder import Model, load
    from onetrunk.inference.tables import answers_in_parts, check_out, nothing_given, read_rows
    from onetrunk.training.open_data import renamed
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)
    if out is not None:
        check_out(Path(out))
    opened = model if isinstance(model, Model) else load(model, device="cpu")
    Runtime.open(device).place(opened.network)
    rows = read_rows(data, allow_network)
    table = renamed(rows, map)
    sampling = Sampling(temperature, top_k, top_p, max_length, guidance, steps, seed, beams)
    ledger = Ledger()
    task = opened.task(ask, given)
    table = opened.to_answer(table, task.ask, ledger, max_bad)
    if opened.fold is not None:  # what an asked column has seen is not its truth
        rows = table.without([*opened.whose(table), *(name for name in task.ask if name in table.columns)])
    absent = [name for name in task.given if name not in table.columns]
    if absent and len(absent) == len(task.given):
        raise nothing_given(task.given, table)
    if absent:
        printer.note(f"The table lacks {', '.join(absent)}: rows are answered without.")
    whole = out is None or not table.is_mapped  # the answers too are more than memory should hold
    parts: list[dict[str, list[Any]]] = []
    with nullcontext() if out is None else AnswerFile(Path(out), rows) as file:
        for part in answers_in_parts(
            opened, table, task, sampling, ledger, prompted, None if out is None else Path(out)
        ):
            if file is not None:
                file.append(part)
            if whole:
                parts.append(part)
        ledger.check(len(table), max_bad)
    for line in ledger.lines():
        printer(LedgerLine(line))
    if file is not None:
        printer.line(f"{len(table):,} answers are in ", (out, "bold"), ", beside the rows' own columns.")
        if file.left_out:
            printer.note(f"These columns are not written, because they are not text: {', '.join(file.left_out)}.")
    if not whole:
        return None
    alike = isinstance(data, pd.DataFrame) and len(data) == len(table)  # not so of events, which became fewer rows
    names = list(dict.fromkeys(name for part in parts for name in part))
    columns = {name: [v for part in parts for v in _of(part, name)] for name in names}
    return pd.DataFrame(columns, index=data.index if alike else None)


def _of(part: dict[str, list[Any]], name: str) -> list[Any]:
    return part[name] if name in part else [None] * len(next(iter(part.values())))
