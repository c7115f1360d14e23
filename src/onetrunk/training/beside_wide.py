"""What simple models know, and a trunk beside it.

The simple baselines come first, with their figures on the validation rows. A wide read-out (`training.wide`) is fitted
in seconds, and the model is usable from then on, with its evidence; where there was no time for all of it, a second fit
takes its time (`wide_model`).

Where rows have their answers, a trunk is then trained beside it (`train_beside`). Of classes it learns all that can be
learnt by itself, and validation rows say how much it and the wide read-out count; of numbers it learns what is left
beside it, from zero. It is kept if its mean gain on the validation rows is larger than its standard error. A foundation
model that was fine-tuned is compared with the wide read-out instead (`the_better`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from onetrunk.core import rng
from onetrunk.core.calibration import Calibration
from onetrunk.core.encoder import class_names
from onetrunk.core.errors import InterruptedRunError
from onetrunk.core.events import Decision, Listener, Note, ignore
from onetrunk.core.module import Calibrated, Mixed
from onetrunk.core.values import present, take
from onetrunk.core.wide import Wide, WideTarget, wide_target_of
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.engine.trainer import TrainResult
from onetrunk.evaluation.baselines import BASELINE_SECONDS
from onetrunk.evaluation.evidence_folder import JUDGED, MAX_COMPARED, MAX_JUDGED
from onetrunk.evaluation.fitted_baselines import FittedBaselines
from onetrunk.inference.answer_rows import answer
from onetrunk.inference.likelihood import reads_of, row_losses
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.wide_outputs import WideOutputs, add_wide, features_of
from onetrunk.model.wide import WideReadout
from onetrunk.training.calibrate import calibrate, calibrate_held_out, heed_validation
from onetrunk.training.context import RunContext
from onetrunk.training.finetune import MAX_VALIDATED, Choice, FineTuned, labelled_rows, tune, validation_rows
from onetrunk.training.open_data import Data
from onetrunk.training.recipe import Recipe
from onetrunk.training.select import choosing_metric, validator
from onetrunk.training.stage import encode_rows, new_model, provenance, untrained
from onetrunk.training.symmetries import decide_symmetries
from onetrunk.training.time_budget import TimeBudget
from onetrunk.training.trials import Trial, TrialSettings, mean_and_error
from onetrunk.training.wide import FittedWide, Rows, fit_wide, wide_rows

_LABELLED = 0.9  # share of the training rows that have their answers
_SURE = 1.0  # standard errors; what gains less is not worth a larger model
_MOST_DECIDING = 5000  # rows that say once whether it does
_MIN_JUDGED = 50  # rows that can say whether the trunk gains
_PATIENCE = 5  # validations
_BASELINES_SHARE, _BASELINES_SECONDS = 0.04, 12.0  # of the time, and at most: for the baselines that come first,
_BASELINES_AGAIN = 0.2  # of the time that is left when the model is usable, for those that had none before
_FIRST_SHARE, _FIRST_SECONDS = 0.1, 30.0  # the first wide fit,
_SECOND_SHARE = 0.2  # and of what is left then a second one, where the first had no time for all
_MOST_FITTED = 100_000  # rows that simple models learn from,
_MOST_FEATURES = 20_000_000  # of all of them together, of which each takes some 50 bytes while a model is fitted,
_PROBED = 500  # and rows that tell how many each has
_LEAST_SECONDS = 5.0  # in which a trunk can learn something
_MOST = {"train": MAX_COMPARED, "val": MAX_JUDGED, "test": MAX_JUDGED}  # rows that baselines learn from and answer
WideReadouts = dict[
    str, tuple[FittedWide, np.ndarray]
]  # of asked columns: the fit, and the store's rows it learnt from
_REASON = "by what the trunk gains in the mean loss of {:,} validation rows"


def needs_no_pretraining(data: Data, recipe: Recipe) -> bool:
    """Can a trunk learn from the answers alone? Not where many rows have none, from which pretraining learns, or where
    the recipe says how to pretrain."""
    if "pretrain" in recipe.model_fields_set:
        return False
    train = data.rows("train")
    return float(min(present(train[name]).mean() for name in data.ask)) >= _LABELLED


def can_be_wide(data: Data, recipe: Recipe) -> bool:
    """Can simple models learn what is asked from what is given, and does the recipe let them?"""
    from onetrunk.core.registry import column_types

    asked, given = ([column_types.get(data.types[n]).encoder for n in names] for names in (data.ask, data.given))
    wide = any(issubclass(kind, Wide) for kind in given) and all(issubclass(kind, WideTarget) for kind in asked)
    return wide and recipe.finetune.wide and data.events is None


class Keeper(Protocol):
    """Keeps a model that is better than what there was before: from then on a run that is stopped leaves this one."""

    def __call__(self, model: Model, choice: Choice, baselines: FittedBaselines) -> None: ...


@dataclass
class WideModel:
    """A model that answers by its wide read-outs alone, the training rows as it reads them, and why it is this one."""

    model: Model
    task: Task
    store: Store
    labelled: np.ndarray
    fits: WideReadouts
    choice: Choice


def wide_model(data: Data, context: RunContext, clock: TimeBudget, keep: Keeper | None = None) -> WideModel | None:
    """A new model of one task that answers as well as simple models do. `keep` is called with it as soon as it does,
    and again if a second fit is better; without it no baselines are fitted either. None where there is nothing for
    simple models to learn from."""
    task = Task(list(data.given), list(data.ask))
    model = new_model(data, context.recipe, context.seed)
    store = encode_rows(model, data, "train", context.recipe)
    context.show_ledger(data, len(store.index))
    labelled = labelled_rows(store, task)
    rows_of = wide_rows_of(store, labelled, task)
    if not rows_of:
        return None
    baselines = None if keep is None else _baselines(model, data, task, context)
    if baselines is not None:
        baselines.fit(min(_BASELINES_SECONDS, _BASELINES_SHARE * clock.seconds))
    fits = fit_wide_readouts(rows_of, min(_FIRST_SECONDS, _FIRST_SHARE * clock.seconds), context)
    if not fits:
        return None
    model.tasks = [task]
    wide = WideModel(model, task, store, labelled, fits, Choice(len(labelled), kept="the wide read-out alone"))

    validation = validation_rows(data, task, _MOST_DECIDING)

    def hold() -> None:
        attach_wide(model, store, wide.fits, context.on_event)
        heed_validation(model, task, validation, len(labelled), context.on_event)
        wide.choice.wide = {name: fit.as_json() for name, (fit, _) in wide.fits.items()}
        model.provenance = provenance(model, data, context, untrained(model, clock.gone), "wide")
        if keep is not None and baselines is not None:
            with clock.judging():
                keep(model, wide.choice, baselines)

    hold()
    if baselines is not None and not baselines.complete:
        baselines.fit(min(BASELINE_SECONDS, _BASELINES_AGAIN * clock.left))
    if any(fit.left_out for fit, _ in fits.values()) and clock.left > _FIRST_SECONDS:
        again = fit_wide_readouts(rows_of, _SECOND_SHARE * clock.left, context)
        if again and _total(again) < _total(fits):
            wide.fits = again
            hold()
    for name, (fit, _) in wide.fits.items():
        if fit.left_out:
            context.on_event(Note(f"The wide read-out of {name} leaves out {fit.left_out}."))
    return wide


def train_beside(wide: WideModel, data: Data, context: RunContext, clock: TimeBudget) -> FineTuned:
    """The same model, with a trunk that was trained beside its wide read-outs, where that gains something."""
    rows = validation_rows(data, wide.task, _MOST_DECIDING)
    if len(rows) < _MIN_JUDGED:
        context.on_event(
            Note(f"The trunk is not trained: {len(rows)} validation rows are too few to tell whether it helps.")
        )
    elif clock.left < _LEAST_SECONDS:
        context.on_event(Note("The trunk is not trained: no time is left (a larger --budget trains it)."))
    else:
        _train_trunk(wide, data, rows, context.but(limit=clock.left))
    return FineTuned(wide.model, wide.choice)


def _baselines(model: Model, data: Data, task: Task, context: RunContext) -> FittedBaselines:
    """The simple baselines, which answer the rows that the evidence is of."""
    names = [*task.given, *task.ask]
    parts = [data.rows(split).sample(most, JUDGED).loaded(names) for split, most in _MOST.items()]
    train, validation, test = ({name: part[name] for name in names} for part in parts)
    return FittedBaselines(model, [(task.given, name) for name in task.ask], train, validation, test, context.on_event)


def wide_rows_of(store: Store, labelled: np.ndarray, task: Task) -> dict[str, Rows]:
    """What simple models of each asked column learn from, a random sample where rows, or their features, are many;
    nothing where one of them has nothing."""
    most = _most_fitted(store, labelled, task)
    if len(labelled) > most:
        order = rng.permutation(rng.key(0, "wide"), len(labelled))
        labelled = labelled[np.sort(order[:most])]
    rows_by_name = {name: wide_rows(store, task.given, name, labelled) for name in task.ask}
    learnable = {name: rows for name, rows in rows_by_name.items() if rows is not None}
    return learnable if len(learnable) == len(rows_by_name) else {}


def _most_fitted(store: Store, labelled: np.ndarray, task: Task) -> int:
    """So many rows fit in memory with their features: a long text has thousands."""
    some = labelled[:: -(-len(labelled) // _PROBED)] if len(labelled) else labelled
    features, _ = features_of(store, [name for name in task.given if name in store.names], some)
    return min(_MOST_FITTED, _MOST_FEATURES * len(some) // max(1, sum(own.found for own in features.values())))


def fit_wide_readouts(rows_of: Mapping[str, Rows], seconds: float | None, context: RunContext) -> WideReadouts:
    """A wide read-out for every asked column, in about so many seconds; nothing where one has too little to learn
    from."""
    fits: WideReadouts = {}
    for name, rows in rows_of.items():
        fit = fit_wide(rows, context.seed, None if seconds is None else seconds / len(rows_of))
        if fit is None:
            return {}
        fits[name] = fit, rows.rows
        count = len(np.unique(rows.rows))
        reason = f"fitted in {fit.seconds:.0f} s, with these losses in cross-validation on {count:,} rows"
        context.on_event(Decision(f"a wide read-out of {name}", reason, dict(fit.scores)))
    return fits


def _total(fits: WideReadouts) -> float:
    return sum(min(fit.scores.values()) for fit, _ in fits.values())


def attach_wide(model: Model, store: Store, fits: WideReadouts, on_event: Listener = ignore) -> None:
    """Adds them to a model whose read-outs say nothing yet, which then answers as they do. The store then holds for its
    rows what models say that did not see them."""
    for name, (fit, rows) in fits.items():
        if fit.residuals is not None:
            wide_target_of(model.encoder(name)).expect_around(fit.held_out[:, 0].astype(np.float64), fit.residuals)
        model.network.add_wide(name, copy.deepcopy(fit.readout).to(next(model.network.parameters()).device))
        store.wide[name] = WideOutputs(fit.readout, store, rows, fit.held_out)
        calibrate_held_out(model, name, store, np.unique(rows), on_event)


def the_better(wide: WideModel, tuned: FineTuned, data: Data, context: RunContext) -> FineTuned:
    """The tuned model, or the one that knows what simple models learn from the labelled rows alone: by the metric that
    chose the tuned one, on the validation rows or, where these are few, in cross-validation. The tuned one where
    several columns are asked, or where nothing has judged it."""
    task = tuned.model.tasks[0]
    if len(task.ask) > 1:
        return tuned
    name, model = task.ask[0], wide.model
    metric = choosing_metric(model, name, context.recipe.finetune.metric)
    validation, theirs = validation_rows(data, task), tuned.choice.validation
    if theirs is not None and len(validation):
        ours = validator(model, task, validation, metric)().value
    elif tuned.choice.cross_validation is not None:
        theirs = tuned.choice.cross_validation[tuned.choice.kept]
        theirs = theirs if theirs is None or metric.higher_is_better else -theirs
        ((_, rows),) = wide.fits.values()
        held_out = wide.store.subset(rows)
        answers = answer(model.network, held_out, task.given, name)
        ours = model.evaluation(name).measure(answers, list(take(data.rows("train")[name], rows))).get(metric.name)
    else:
        return tuned
    figures = {"simple models": ours, "pretrained and fine-tuned": theirs}
    better = metric.better(ours, theirs)
    what = "the wide read-out alone" if better else f"the {tuned.choice.kept} model"
    context.on_event(Decision(what, f"the better by {metric.name}", figures))
    if not better:
        return tuned
    model.provenance = provenance(model, data, context, untrained(model, 0.0), "wide", tuned.model.provenance)
    tuned.choice.kept, tuned.choice.wide = wide.choice.kept, wide.choice.wide
    return FineTuned(model, tuned.choice)


def _train_trunk(wide: WideModel, data: Data, rows: Table, context: RunContext) -> None:
    """Trains the trunk, and keeps it if it gains more on the validation rows than the noise of that gain."""
    model, task, store, choice = wide.model, wide.task, wide.store, wide.choice
    before = copy.deepcopy(model.network.state_dict())
    calibrated = {name: model.calibration(name) for name in task.ask}
    judged = _encoded(model, rows, task, task.ask[0])
    decide_symmetries(model, judged, task, lambda store: store_scores(model, store, task), context.on_event)
    context_of = context.but(recipe=patient(context.recipe))
    try:
        with apart(model, store, task, rows):
            some = rows.take(np.arange(min(MAX_VALIDATED, len(rows))))  # all would be asked too often
            result = tune(model, store, wide.labelled, task, context_of, pretrained=False, validation=some)
    except InterruptedRunError as error:
        usable = f"{context.out} holds a usable model as it is, without the trunk, and its evidence."
        raise InterruptedRunError(f"{error} {usable}", error.exit_code - 128) from None
    after = row_scores(model, rows, task)
    trained = copy.deepcopy(model.network.state_dict())
    model.network.load_state_dict(before)
    alone = row_scores(model, rows, task)
    gain, noise = mean_and_error(alone - after)
    if gain > _SURE * noise:
        model.network.load_state_dict(trained)
        model.provenance = provenance(model, data, context, result, "finetune")
        choice.kept = "the wide read-out and the trunk"
    choice.trunk = {"gain": gain, "standard_error": noise, "seconds": result.seconds, "steps": float(result.step)}
    context.on_event(Decision(choice.kept, _REASON.format(len(alone)), {"gain": gain, "standard error": noise}))
    model.provenance["trials"] = [trial.as_json() for trial in _tried(alone, after, result, context.recipe, choice)]
    if gain > _SURE * noise or None in calibrated.values():
        calibrate(model, task, rows, len(wide.labelled), context.on_event)
    if gain <= _SURE * noise:
        _restore_calibration(model, calibrated)


def _restore_calibration(model: Model, calibrated: Mapping[str, Calibration | None]) -> None:
    """What was said of the wide read-outs, which answer alone: cross-validation looked at more rows."""
    for name, held_out in calibrated.items():
        module = model.module(name)
        if isinstance(module, Calibrated) and held_out is not None:
            module.calibration = held_out


def _tried(alone: np.ndarray, after: np.ndarray, result: TrainResult, recipe: Recipe, choice: Choice) -> list[Trial]:
    """Both models as trials, by the losses of the validation rows, float64 [rows]."""
    fitted = sum(each["seconds"] for each in (choice.wide or {}).values())
    dropout = float(recipe.trunk.get("dropout", 0.0))
    trunk = TrialSettings("scratch", recipe.size, 1.0, dropout, recipe.train.weight_decay)
    wide = TrialSettings("wide", recipe.size)
    return [Trial.judged(0, wide, alone, fitted), Trial.judged(1, trunk, after, result.seconds, result.step)]


@contextmanager
def apart(model: Model, store: Store, task: Task, validation: Table) -> Iterator[None]:
    """What is trained inside learns apart from the wide read-outs, where the asked columns' types can do that: these
    say nothing, and the trunk learns all that is to be learnt. Afterwards the validation rows say how much each counts
    (stacking, Wolpert 1992). Of other types the trunk learns what the wide read-outs leave."""
    silent: dict[str, WideReadout] = {}
    for name in task.ask:
        readout = model.network.wide_of(name)
        if readout is not None and isinstance(model.module(name), Mixed):
            silent[name] = readout
    kept = {name: (readout.mix.clone(), store.wide[name]) for name, readout in silent.items()}
    for name, readout in silent.items():
        readout.mix.zero_()
        store.wide[name] = np.zeros((len(store.index), readout.shape.outputs), dtype=np.float32)
    try:
        yield
    finally:
        for name, readout in silent.items():
            share, store.wide[name] = kept[name]
            readout.mix.copy_(share)
    for name, readout in silent.items():
        module, judged = model.module(name), _encoded(model, validation, task, name)
        add_wide(model.network, judged, task.given, name)
        assert isinstance(module, Mixed)
        with torch.no_grad():
            readout.mix.mul_(module.mix(*reads_of(model.network, judged, task.given, name)))


def _encoded(model: Model, rows: Table, task: Task, name: str) -> Store:
    """The rows that have an answer."""
    columns = [column for n, column in model.columns.items() if n in (*task.given, name)]
    store = encode(rows, columns, model.network.encoders, Ledger())
    store.index = store.index[store.index[:, store.names.index(name)] >= 0]
    return store


def patient(recipe: Recipe) -> Recipe:
    """Stopped when nothing more is gained."""
    train = recipe.train
    if "patience" not in train.model_fields_set:
        train = train.model_copy(update={"patience": _PATIENCE})  # whose other settings nobody has chosen
    return recipe.model_copy(update={"train": train})


def row_scores(model: Model, rows: Table, task: Task) -> np.ndarray:
    """How wrong the model is in each row of its first asked column, float64 [rows]: the squared error of numbers in the
    column's standard units, of all else nats (a part)."""
    return store_scores(model, _encoded(model, rows, task, task.ask[0]), task)


def store_scores(model: Model, store: Store, task: Task) -> np.ndarray:
    """The same of encoded rows that all have an answer."""
    name = task.ask[0]
    encoder = model.encoder(name)
    add_wide(model.network, store, task.given, name)
    if not isinstance(encoder, WideTarget) or class_names(encoder) is not None:
        nats, count = row_losses(model.network, store, task.given, name)
        return nats / np.maximum(count, 1)
    c = store.names.index(name)
    target, _ = encoder.wide_target(store.contents[c].take(store.index[:, c]))
    answered = [a.value for a in answer(model.network, store, task.given, name)]
    content, _ = encoder.encode_all(answered, lambda i, reason: None)
    return (encoder.wide_target(content)[0] - target) ** 2
