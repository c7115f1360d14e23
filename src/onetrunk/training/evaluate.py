"""Judging a model folder on a table with known answers: what the verb evaluate does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.events import Listener, Note, ignore
from onetrunk.data.ledger import Ledger
from onetrunk.data.seen_rows import record, splits_before
from onetrunk.data.table import Table
from onetrunk.evaluation.evidence_folder import evaluate_model
from onetrunk.evaluation.record import Evidence
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.storage import atomic, hub
from onetrunk.storage.locks import lock_folder, locks_end
from onetrunk.training.open_data import check_map, read_table, seen_splits
from onetrunk.training.options import DataOptions


@locks_end()
def run_evaluation(
    folder: str,
    data: Any,
    options: DataOptions,
    on_event: Listener = ignore,
    *,
    against: Any = None,
    beside: Sequence[str] = (),
    learning_curve: bool = False,
) -> Evidence:
    """Judges a model folder on rows that it has not seen, beside baselines of the rows `against` and the models of the
    folders `beside`; leaves evidence/ and README.md in the folder. With a `learning_curve` it also fits the strongest
    baseline on fewer rows."""
    if learning_curve and against is None:
        raise UsageError("--learning-curve fits a baseline on fewer and fewer training rows: name them with --against.")
    device = options.device or "auto"
    if folder.startswith(hub.HUB):
        raise UsageError(
            f"{folder} lies in the cache of the hub, and evidence is left in the model's own folder: copy it first "
            "(hf download OWNER/NAME --local-dir MODEL), then evaluate MODEL."
        )
    model, ledger = load(folder, device=device), Ledger()
    check_map(model, options.map)
    if options.ask is not None or options.given is not None:
        task = model.task(options.ask, options.given)
        model.tasks = [Task(task.given, [name]) for name in task.ask]
    asked = [name for task in model.tasks for name in task.ask]

    def rows(source: Any, ledger: Ledger) -> Table:
        table = read_table(source, options, model)
        return model.as_learnt(model.to_judge(table, asked, ledger, options.max_bad))

    table = rows(data, ledger)
    train = None if against is None else rows(against, Ledger())
    others = {Path(other).name: load(other, device=device) for other in beside}
    if len(others) < len(beside):
        raise UsageError(
            f"--beside expects folders of different names, which tell them apart; found {', '.join(beside)}."
        )
    if not options.allow_equal_rows:
        for one in (model, *others.values()):
            table = _unseen(one, table, on_event)
        train = None if train is None else _not_judged(model, train, table, on_event)
    lock_folder(atomic.real(folder))
    return evaluate_model(
        model, table, train, Path(folder),
        seed=options.seed, max_bad=options.max_bad, ledger=ledger, beside=others, lang=options.lang,
        with_labels_curve=learning_curve, on_event=on_event,
    )  # fmt: skip


def _unseen(model: Model, table: Table, on_event: Listener) -> Table:
    """The rows that the model was neither trained nor validated on."""
    before = seen_splits(model, table, on_event)
    seen = (before == 0) | (before == 1)
    if seen.all():
        raise DataError(
            f"The model was trained on every row of {table.source}: expected rows it has not met. Give others, or "
            "measure it on these all the same: --allow-equal-rows"
        )
    if seen.any():
        on_event(
            Note(
                f"{seen.sum():,} of {len(table):,} rows are left out, because the model was trained or validated on "
                "them (--allow-equal-rows judges them too)."
            )
        )
    return table.take(~seen)


def _not_judged(model: Model, train: Table, table: Table, on_event: Listener) -> Table:
    """The training rows that are not among those to be judged: baselines must not learn from them either."""
    names = [name for name in model.columns if name in table.columns and name in train.columns]
    types = {name: model.columns[name].type for name in names}
    none = np.zeros(0, dtype=np.int64)
    judged = record(table, types, names, {"train": none, "val": none, "test": np.arange(len(table))})
    same = splits_before(train, [judged]) >= 0
    if same.any():
        on_event(Note(f"{same.sum():,} rows of --against are judged, so the baselines do not learn from them."))
    return train.take(~same)
