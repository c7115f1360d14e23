"""Validation while a model trains: it chooses the best step, the best seed, and the pretrained or fine-tuned model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from onetrunk.core.encoder import History, reads_on
from onetrunk.core.errors import UsageError
from onetrunk.core.metric import Metric, metric_named
from onetrunk.core.values import take
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import as_learnt, encode
from onetrunk.data.table import Table
from onetrunk.evaluation.baselines import before_and_then, usable
from onetrunk.inference.answer_rows import answer
from onetrunk.inference.likelihood import mean_loss
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.wide_outputs import add_wide

LOSS = Metric("loss", False, "nats")
_PROPER = ("log_loss", "crps")  # best where the probabilities are right


class Judgement(NamedTuple):
    """The value of the metric that chooses, None where it is undefined; whether more of it is better; all metrics."""

    value: float | None
    higher_is_better: bool
    metrics: dict[str, float | None]


def choosing_metric(model: Model, column: str, name: str | None) -> Metric:
    """By what an asked column's models are compared: the named metric, else a proper score (an accuracy of few rows is
    mostly chance), else its main one; its loss where answers take many steps. Raises UsageError that names the nearest
    where it has no metric of this name."""
    metrics = model.evaluation(column).metrics()  # the main one first
    if judged_by_metric(model, column):
        proper = next((metric for metric in metrics if metric.name in _PROPER), metrics[0])
        return proper if name is None else metric_named(name, metrics)
    if name not in (None, LOSS.name):
        named = metric_named(name, [*metrics, LOSS])
        raise UsageError(
            f"finetune.metric={named.name} would take an answer of many steps for every validation row: such models "
            "are compared by their loss. Leave it out."
        )
    return LOSS


def judged_by_metric(model: Model, column: str) -> bool:
    """Does an answer take one step? Others would cost too much while training."""
    encoder = model.encoder(column)
    return model.module(column).pooled or isinstance(encoder, History) or reads_on(encoder) is not None


def validator(model: Model, task: Task, rows: Table, metric: Metric) -> Callable[[], Judgement]:
    """A function that judges the model, as it then is, by the first asked column of these rows."""
    name = task.ask[0]
    if isinstance(model.encoder(name), History):
        return lambda: _judgement(metric, _history_metrics(model, task, rows))
    columns = [column for n, column in model.columns.items() if n in (*task.given, *task.ask)]
    rows = as_learnt(rows, [model.columns[name]], model.network.encoders)
    store = encode(rows, columns, model.network.encoders, Ledger())
    present = np.flatnonzero(store.index[:, store.names.index(name)] >= 0)
    store.index = store.index[present]
    add_wide(model.network, store, task.given, name)
    truths = list(take(rows[name], present))

    evaluation = model.evaluation(name)

    def judge() -> Judgement:
        if metric == LOSS:
            return _judgement(metric, {LOSS.name: mean_loss(model.network, store, task.given, name)})
        return _judgement(metric, evaluation.measure(answer(model.network, store, task.given, name), truths))

    return judge


def best_of(values: Sequence[float | None], metric: Metric) -> int:
    """The index of the best value, the first of equal ones. What is undefined is never better than anything."""
    best = 0
    for i, value in enumerate(values):
        if metric.better(value, values[best]):
            best = i
    return best


def _judgement(metric: Metric, values: dict[str, float | None]) -> Judgement:
    return Judgement(values.get(metric.name), metric.higher_is_better, values)


def _history_metrics(model: Model, task: Task, rows: Table) -> dict[str, float | None]:
    """Of a history, the last steps are what it is asked for."""
    name = task.ask[0]
    evaluation = model.evaluation(name)
    before, then = before_and_then(model.encoder(name), rows[name])
    kept = usable(evaluation, then)
    columns = {n: take(rows[n], np.array(kept, dtype=np.int64)) for n in task.given if n in rows.columns}
    columns[name] = [before[i] for i in kept]
    return evaluation.measure(model.answer(columns, name, task.given), [then[i] for i in kept])
