"""evaluate: how good a model is on rows it has not seen, beside simple baselines, as figures, card and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def evaluate(
    model: str,
    data: Any,
    *,
    ask: list[str] | None = None,
    given: list[str] | None = None,
    map: dict[str, str] | None = None,
    against: Any = None,
    beside: list[str] | None = None,
    allow_equal_rows: bool = False,
    seed: int = 0,
    max_bad: float = 0.01,
    network: bool = False,
    quiet: bool = False,
) -> Any:
    """Measure a model folder on a table with known answers; writes evidence/ and README.md in the folder.

    Args:
        model: a model folder.
        data: rows the model has not seen: a file, folder, DataFrame, dataset, or hf://name.
        ask: columns to judge; by default the folder's tasks.
        given: columns to answer from; by default the task's.
        map: model_column=table_column, where names differ.
        against: training rows for the baselines; without them only the model is judged.
        beside: other model folders, like one for each of several tasks: rivals on the same rows.
        allow_equal_rows: judge rows too that equal one the model was trained on.
        seed: of the intervals' resampling.
        max_bad: share of unusable values in a column from which it stops.
        network: let hf:// names reach for the network.
        quiet: print nothing.

    Returns:
        The evidence; `tasks` holds metrics, intervals and rivals.
    """
    from onetrunk.core.errors import UsageError
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.table import read
    from onetrunk.evaluation.evidence_folder import evaluate_model
    from onetrunk.inference.model_folder import Task, load
    from onetrunk.training.open_data import renamed
    from onetrunk.verbs.show import console_for

    console = console_for(quiet)
    opened = load(model)
    ledger = Ledger()
    table, train = (
        None if source is None else renamed(read(source, allow_network=network), map) for source in (data, against)
    )
    if ask is not None or given is not None:
        task = opened.task(ask, given)
        opened.tasks = [Task(task.given, [name]) for name in task.ask]
    asked = [name for task in opened.tasks for name in task.ask]
    table = opened.to_judge(table, asked, ledger, max_bad)
    train = None if train is None else opened.to_judge(train, asked, Ledger(), max_bad)
    others = {Path(folder).name: load(folder) for folder in beside or []}
    if len(others) < len(beside or []):
        raise UsageError(f"Folders of --beside are told apart by their names, which differ: found {', '.join(beside)}.")
    if not allow_equal_rows:
        for one in (opened, *others.values()):
            table = _unseen(one, table, console)
        train = train if train is None else _others(opened, train, table, console)
    return evaluate_model(opened, table, train, Path(model), seed, console, max_bad, ledger, others)


def _unseen(model: Any, table: Any, console: Any) -> Any:
    """The rows that the model was neither trained nor validated on."""
    from onetrunk.core.errors import DataError
    from onetrunk.training.open_data import seen_splits

    before = seen_splits(model, table, console)
    met = (before == 0) | (before == 1)
    if met.all():
        raise DataError(
            f"The model was trained on every row of {table.source}: expected rows it has not met. Give others, or "
            "measure it on these all the same: --allow-equal-rows"
        )
    if met.any():
        console.print(
            f"[yellow]Note:[/] {met.sum():,} of {len(table):,} rows were trained or validated on, and are left out "
            "(--allow-equal-rows judges them too).",
            highlight=False,
        )
    return table.take(~met)


def _others(model: Any, train: Any, table: Any, console: Any) -> Any:
    """The training rows that are not among those to be judged: rivals must not learn from them either."""
    import numpy as np

    from onetrunk.data.seen_rows import record, splits_before

    names = [name for name in model.columns if name in table.columns and name in train.columns]
    types = {name: model.columns[name].type for name in names}
    none = np.zeros(0, dtype=np.int64)
    judged = record(table, types, names, {"train": none, "val": none, "test": np.arange(len(table))})
    same = splits_before(train, [judged]) >= 0
    if same.any():
        console.print(
            f"[yellow]Note:[/] {same.sum():,} rows of --against are judged, so rivals do not learn from them.",
            highlight=False,
        )
    return train.take(~same)
