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
        seed: of the intervals' resampling.
        max_bad: share of unusable values in a column from which it stops.
        network: let hf:// names reach for the network.
        quiet: print nothing.

    Returns:
        The evidence; `tasks` holds metrics, intervals and rivals.
    """
    from onetrunk.data.table import read
    from onetrunk.inference.model_folder import Task, load
    from onetrunk.verbs import _evidence, _setup

    console = _setup.console(quiet)
    opened = load(model)
    table = _setup.renamed(read(data, allow_network=network), map)
    train = _setup.renamed(read(against, allow_network=network), map) if against is not None else None
    if ask is not None or given is not None:
        task = opened.task(ask, given)
        opened.tasks = [Task(task.given, [name]) for name in task.ask]
    return _evidence.evaluate(opened, table, train, Path(model), seed, console, max_bad)
