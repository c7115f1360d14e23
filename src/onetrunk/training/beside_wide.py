"""The default of `train` on rows that have their answers: first a linear model and boosted trees, then the trunk.

A wide read-out (`training.wide`) is fitted in seconds, and the model is usable from then on. The trunk learns what is
left to learn. It starts at zero, so that the model first answers exactly as the wide read-out does. It is kept if its
mean gain on the validation rows is larger than the standard error of that gain.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np

from onetrunk.core.events import Decision, Listener, Note, ignore
from onetrunk.core.wide import Wide, WideTarget, wide_target_of
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.inference.likelihood import row_losses
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.predict import answer
from onetrunk.inference.wide import add_wide
from onetrunk.training.calibration import calibrate, calibrate_held_out
from onetrunk.training.context import RunContext
from onetrunk.training.finetune import Choice, FineTuned, labelled_rows, tune, validation_rows
from onetrunk.training.open_data import Data
from onetrunk.training.recipe import Recipe
from onetrunk.training.stage import encode_rows, new_model, provenance, untrained
from onetrunk.training.wide import FittedWide, fit_wide, wide_rows

_LABELLED = 0.9  # share of the training rows that have their answers
_MIN_JUDGED = 50  # rows that can say whether the trunk gains
_PATIENCE = 5  # validations
_WIDE_SHARE = 0.5  # of the time
_PROPER = "log_loss"
WideReadouts = dict[
    str, tuple[FittedWide, np.ndarray]
]  # of asked columns: the fit, and the store's rows it learnt from
_REASON = "by what the trunk gains in the mean loss of {:,} validation rows"


def begins_wide(data: Data, recipe: Recipe) -> bool:
    """Is this the way to train on these rows? Not where the recipe says how to pretrain, where many rows have no answer
    (pretraining learns from them), or where no given column has features that simple models can use."""
    if "pretrain" in recipe.model_fields_set or not can_be_wide(data, recipe):
        return False
    train = data.rows("train")
    return float(min(np.mean([value is not None for value in train[name]]) for name in data.ask)) >= _LABELLED


def can_be_wide(data: Data, recipe: Recipe) -> bool:
    """Can simple models learn what is asked from what is given, and does the recipe let them?"""
    from onetrunk.core.registry import column_types

    asked, given = ([column_types.get(data.types[n]).encoder for n in names] for names in (data.ask, data.given))
    wide = any(issubclass(kind, Wide) for kind in given) and all(issubclass(kind, WideTarget) for kind in asked)
    return wide and recipe.finetune.wide and data.events is None


def train_beside_wide(data: Data, context: RunContext, usable: Callable[[Model], None]) -> FineTuned | None:
    """A new model of one task. `usable` is called with it as soon as it answers as well as simple models do. None where
    there is nothing for them to learn from."""
    started = time.monotonic()
    task = Task(list(data.given), list(data.ask))
    model = new_model(data, context.recipe, context.seed)
    store = encode_rows(model, data, "train", context.recipe)
    context.show_ledger(data.ledger, len(store.index))
    labelled = labelled_rows(store, task)
    fits = fit_wide_readouts(store, labelled, task, context)
    if not fits:
        return None
    attach_wide(model, store, fits, context.on_event)
    model.tasks = [task]
    choice = Choice(
        len(labelled), kept="the wide read-out alone", wide={name: fit.as_json() for name, (fit, _) in fits.items()}
    )
    model.provenance = provenance(model, data, context, untrained(model, time.monotonic() - started), "wide")
    usable(model)
    rows = validation_rows(data, task)
    if len(rows) < _MIN_JUDGED:
        context.on_event(
            Note(f"The trunk is not trained: {len(rows)} validation rows are too few to tell whether it helps.")
        )
        return FineTuned(model, choice)
    before = copy.deepcopy(model.network.state_dict())
    left = None if context.limit is None else max(5.0, context.limit - (time.monotonic() - started))
    result = tune(model, store, labelled, task, context.but(recipe=patient(model, context.recipe, task), limit=left),
                  pretrained=False, validation=rows)  # fmt: skip
    after = row_scores(model, rows, task)
    trained = model.network.state_dict()
    model.network.load_state_dict(before)
    gains = row_scores(model, rows, task) - after
    gain, noise = float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)
    kept = gain > noise
    if kept:
        model.network.load_state_dict(trained)
        model.provenance = provenance(model, data, context, result, "finetune")
        choice.kept = "the wide read-out and the trunk"
    choice.trunk = {"gain": gain, "standard_error": noise, "seconds": result.seconds, "steps": float(result.step)}
    context.on_event(Decision(choice.kept, _REASON.format(len(gains)), {"gain": gain, "standard error": noise}))
    calibrate(model, task, rows, context.on_event)
    return FineTuned(model, choice)


def fit_wide_readouts(store: Store, labelled: np.ndarray, task: Task, context: RunContext) -> WideReadouts:
    """A wide read-out for every asked column; nothing where one has too little to learn from. The store then holds for
    its rows what models say that did not see them."""
    fits: WideReadouts = {}
    for name in task.ask:
        rows = wide_rows(store, task.given, name, labelled)
        limit = None if context.limit is None else _WIDE_SHARE * context.limit / len(task.ask)
        fit = None if rows is None else fit_wide(rows, context.seed, limit)
        if rows is None or fit is None:
            return {}
        fits[name] = fit, rows.rows
        if fit.left_out:
            context.on_event(Note(f"The wide read-out of {name} leaves out {fit.left_out}."))
        out = np.zeros((len(store.index), fit.held_out.shape[1]), dtype=np.float32)
        out[rows.rows] = fit.held_out
        store.wide[name] = out
        reason = f"fitted in {fit.seconds:.0f} s, with these losses in cross-validation on {rows.count:,} rows"
        context.on_event(Decision(f"a wide read-out of {name}", reason, dict(fit.scores)))
    return fits


def attach_wide(model: Model, store: Store, fits: WideReadouts, on_event: Listener = ignore) -> None:
    """Adds them to a model whose read-outs say nothing yet, which then answers as they do."""
    for name, (fit, rows) in fits.items():
        if fit.residuals is not None:
            wide_target_of(model.encoder(name)).expect_around(fit.residuals)
        model.network.add_wide(name, copy.deepcopy(fit.readout).to(next(model.network.parameters()).device))
        calibrate_held_out(model, name, store, rows, on_event)


def patient(model: Model, recipe: Recipe, task: Task) -> Recipe:
    """Judged often and by a proper score, and stopped when nothing more is gained."""
    names = [metric.name for metric in model.evaluation(task.ask[0]).metrics()]
    tuning = recipe.finetune
    if tuning.metric is None and _PROPER in names:
        tuning = tuning.updated(metric=_PROPER)
    train = recipe.train
    if "patience" not in train.model_fields_set:
        train = train.model_copy(update={"patience": _PATIENCE})
    return recipe.model_copy(update={"finetune": tuning, "train": train})


def row_scores(model: Model, rows: Table, task: Task) -> np.ndarray:
    """How wrong the model is in each row of its first asked column, float64 [rows]: the squared error of numbers in the
    column's standard units, of all else nats (a part)."""
    name = task.ask[0]
    columns = [column for n, column in model.columns.items() if n in (*task.given, name)]
    store = encode(rows, columns, model.network.encoders, Ledger())
    there = np.flatnonzero(store.index[:, store.names.index(name)] >= 0)
    store.index = store.index[there]
    add_wide(model.network, store, task.given, name)
    encoder = model.encoder(name)
    if not isinstance(encoder, WideTarget) or encoder.wide_target(encoder.stack([]))[1]:
        nats, count = row_losses(model.network, store, task.given, name)
        return nats / np.maximum(count, 1)
    c = store.names.index(name)
    target, _ = encoder.wide_target(store.contents[c].take(store.index[:, c]))
    answered = [a.value for a in answer(model.network, store, task.given, name)]
    content, _ = encoder.encode_all(answered, lambda i, reason: None)
    return (encoder.wide_target(content)[0] - target) ** 2
