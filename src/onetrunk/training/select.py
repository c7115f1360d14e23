"""How good a model is while it trains, on rows held out: what chooses the best step, seed and start."""

from __future__ import annotations

from typing import Any

import numpy as np

from onetrunk.core.column import Codec
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.table import Table
from onetrunk.evaluation.baselines import before_and_then, usable
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.predict import answer


def judged_by_metric(codec: Codec) -> bool:
    """Does an answer take one step? Others would cost too much while training."""
    return codec.pooled or codec.history or codec.reads_on() is not None


def _metrics(model: Model, task: Task, table: Table) -> dict[str, float | None]:
    """The first asked column's, over the rows that hold it; a history's last steps are what it is asked for."""
    name = task.ask[0]
    codec = model.codec(name)
    before, then = before_and_then(codec, table[name])
    rows = usable(codec, then)
    columns = {n: [table[n][i] for i in rows] for n in task.given if n in table.columns}
    if codec.history:
        columns[name] = [before[i] for i in rows]
    return codec.metrics(model.answer(columns, name, task.given), [then[i] for i in rows])


def validator(model: Model, task: Task, validation: Table, metric: str | None) -> Any:
    """Returns (value, is higher better, all metrics): the first asked column's, or its loss if answers take steps."""
    name = task.ask[0]
    codec = model.codec(name)
    store = encode(
        validation,
        [column for n, column in model.columns.items() if n in (*task.given, *task.ask)],
        model.network.codecs,
        Ledger(),
    )
    rows = np.flatnonzero(store.index[:, store.names.index(name)] >= 0)
    store.index = store.index[rows]
    truths = [validation[name][i] for i in rows]

    def by_metric() -> tuple[float, bool, dict[str, float | None]]:
        if codec.history:
            found = _metrics(model, task, validation)
        else:
            found = codec.metrics(answer(model.network, store, task.given, name), truths)
        chosen = metric or next(iter(found))
        value = found.get(chosen)
        return (0.0 if value is None else value), codec.higher_is_better if metric is None else True, found

    def by_loss() -> tuple[float, bool, dict[str, float | None]]:
        from onetrunk.inference.likelihood import mean_loss

        loss = mean_loss(model.network, store, task.given, name)
        return loss, False, {"loss": loss}

    return by_metric if judged_by_metric(codec) else by_loss
