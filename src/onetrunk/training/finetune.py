"""Fine-tuning on one task: which columns are given, which is asked."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.errors import DataError, ModelFileError, UsageError
from onetrunk.core.events import Decision, FoldDone, Note, ignore
from onetrunk.core.objective import ObjectiveConfig
from onetrunk.core.values import present
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.engine.checkpoint import FOLD_ANSWERS, SCORES
from onetrunk.engine.trainer import TrainResult
from onetrunk.inference.adapter import Adapter, base_digest
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.wide_outputs import add_wide
from onetrunk.nn import lora
from onetrunk.objectives import Learner
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.strict_json import read_json, write_json_whole
from onetrunk.storage.tensors import load_tensors
from onetrunk.training import adapt
from onetrunk.training.batches import count_steps, loader, steps_within, with_row_weights
from onetrunk.training.calibrate import HeldOut, calibrate, calibrate_by, calibration_by, held_out
from onetrunk.training.context import RunContext
from onetrunk.training.label_propagation import propagate_labels
from onetrunk.training.open_data import Data
from onetrunk.training.private import documents_of, refuse_rows_learnt_before, spent_before, timed_step_kind
from onetrunk.training.recipe import Recipe
from onetrunk.training.select import Judgement, best_of, choosing_metric, validator
from onetrunk.training.stage import encode_rows, provenance, run_stage, weights_digest

_COMPARED = ("pretrained", "fine-tuned")
MAX_VALIDATED = 2000  # rows looked at to choose the best step
_MIN_VALIDATED = 20  # fewer labelled validation rows say nothing: cross-validation on the training labels instead


@dataclass
class Choice:
    """What fine-tuning decided, and on what grounds. `validation` is the kept model's, on the rows held out for it."""

    labelled_rows: int
    kept: str = "fine-tuned"
    rows_with_propagated_labels: int | None = None
    cross_validation: dict[str, float | None] | None = None
    validation: float | None = None
    seeds: list[float | None] = field(default_factory=list)
    wide: dict[str, Any] | None = None  # of each asked column, what its wide read-out was fitted to
    trunk: dict[str, float] | None = None  # what the trunk gained beside it, and what that took

    def as_json(self) -> dict[str, Any]:
        """What was looked at."""
        return {name: value for name, value in vars(self).items() if value not in (None, [])}


@dataclass
class FineTuned:
    """A model with one task, and why it is this one."""

    model: Model
    choice: Choice


def finetune_model(data: Data, context: RunContext, model: Model, pretrained: bool) -> FineTuned:
    """Trains one task, in place. The model is as it was where training does not help. With `pretrained` it learns
    gently, and is compared with what it was."""
    tuning = context.recipe.finetune
    task = Task(list(data.given), list(data.ask))
    choosing_metric(model, task.ask[0], tuning.metric)  # a name that is wrong is refused before any work
    store = encode_rows(model, data, "train", context.recipe)
    context.show_ledger(data, len(store.index))
    labelled = labelled_rows(store, task)
    private = context.recipe.private is not None
    if private:
        refuse_rows_learnt_before(model, data)
    validation = validation_rows(data, task, 0 if private else MAX_VALIDATED)  # of a private model they choose nothing
    choice, held = Choice(len(labelled)), dict[str, HeldOut]()
    propagates = pretrained and tuning.label_propagation and len(labelled) < len(store.index)
    folds = pretrained and not (propagates or private) and cross_validates(validation)
    if context.limit is not None:
        context = context.but(limit=context.limit / (tuning.repeats + folds * tuning.folds))
    if propagates:
        store, labelled = _with_propagated_labels(model, data, store, task, context.recipe)
        choice.rows_with_propagated_labels, choice.kept = len(labelled), "fine-tuned on propagated labels"
        context.on_event(Note(f"Label propagation: learning from {len(labelled):,} rows."))
    elif folds:
        choice.cross_validation, held = _cross_validated(
            model, store, labelled, task, context, data.rows("train"), validation
        )
        choice.kept = _better_start(choice.cross_validation)
        context.on_event(_as_decision(choice))
        if choice.kept == "pretrained":
            model.tasks = [task]
            return FineTuned(model, choice)
    chosen, result = _best_seed(data, store, labelled, task, context, model, pretrained, validation, choice)
    chosen.adapter = merged_adapter(model, chosen, context.recipe)
    chosen.tasks = [task]
    chosen.provenance = provenance(chosen, data, context, result, "finetune", model.provenance)
    calibrate(chosen, task, validation, choice.labelled_rows, context.on_event)
    for name, made in held.items():  # where there are too few validation rows
        calibrate_by(chosen, name, made, context.on_event)
    return FineTuned(chosen, choice)


def cross_validates(validation: Table) -> bool:
    """Are these too few rows to choose by? Then held-out training labels say whether fine-tuning helps."""
    return len(validation) < _MIN_VALIDATED


def labelled_rows(store: Store, task: Task) -> np.ndarray:
    """The rows that hold a value of an asked column. Raises DataError where nothing can be learnt from any."""
    asked = [store.names.index(name) for name in task.ask]
    labelled = np.flatnonzero(store.present[:, asked].any(1))
    if not len(labelled):
        raise DataError(f"No training row has a value in {', '.join(task.ask)}: nothing to fine-tune on.")
    for c in asked:
        encoder, content = store.encoders[c], store.contents[c]
        if len(content) and not encoder.teaches(content).any():
            name = store.names[c]
            raise DataError(f"The column {name!r} teaches nothing: {encoder.teaches_nothing}. See `onetrunk inspect`.")
    return labelled


def validation_rows(data: Data, task: Task, most: int = MAX_VALIDATED) -> Table:
    """Rows that are held out to choose by, as far as they hold an asked value, so many at most."""
    rows = data.rows("val")
    known = np.flatnonzero(np.any([present(rows[name]) for name in task.ask], axis=0))
    return rows.take(known[:most])


def _best_seed(
    data: Data,
    store: Store,
    labelled: np.ndarray,
    task: Task,
    context: RunContext,
    model: Model,
    pretrained: bool,
    validation: Table,
    choice: Choice,
) -> tuple[Model, TrainResult]:
    """Trains as often as the recipe says, each time with another seed, and keeps the best."""
    metric = choosing_metric(model, task.ask[0], context.recipe.finetune.metric)
    repeats = context.recipe.finetune.repeats
    tried: list[tuple[Model, TrainResult]] = []
    for repeat in range(repeats):
        seed = context.seed + repeat
        candidate = model if repeat == repeats - 1 else copy.deepcopy(model)
        out = context.out if repeats == 1 else context.out / "checkpoints" / f"seed-{seed}"
        result = tune(candidate, store, labelled, task, context.but(out=out, seed=seed), pretrained, validation)
        tried.append((candidate, result))
    values = [result.best_metric for _, result in tried]
    best = best_of(values, metric)
    choice.validation, choice.seeds = values[best], values
    if repeats > 1:
        scores = {f"seed {context.seed + i}": value for i, value in enumerate(values)}
        context.on_event(Decision(f"seed {context.seed + best}", "best on the validation rows", scores))
    return tried[best]


def merged_adapter(start: Model, tuned: Model, recipe: Recipe) -> Adapter | None:
    """What LoRA has learnt beside its base, which is merged into the trunk."""
    config = recipe.finetune.lora
    if config is None:
        return None
    assert start.folder is not None, "add_lora has asked for it"
    whole = load_tensors(start.folder / "model.safetensors") if config.bits == 4 else None
    learnt = lora.take(tuned.network.trunk, whole)
    return Adapter(config, learnt, start.folder, base_digest(start.folder))


def tune(
    model: Model,
    store: Store,
    labelled: np.ndarray,
    task: Task,
    context: RunContext,
    pretrained: bool,
    validation: Table | None = None,
    stage: str = "fine-tuning",
) -> TrainResult:
    """One training on some rows of a store. `validation` rows choose the best step; without them the last is kept."""
    recipe = context.recipe
    tuning = recipe.finetune
    documents = tuning.documents or int(np.clip(len(labelled) // 16, 16, 128))
    if recipe.private is not None:
        documents = documents_of(recipe, len(labelled))
    kind, options = "predict", {}
    if context.teacher is not None:
        kind, options = "distil", tuning.distil.model_dump()
    objective = ObjectiveConfig(kind=kind, documents=documents, given=task.given, ask=task.ask, options=options)
    rows = store.subset(labelled)
    for name in task.ask:
        if name not in rows.wide:
            add_wide(model.network, rows, task.given, name)
    teacher = None if context.teacher is None else context.teacher.network
    batches, objectives = loader(rows, [objective], recipe, context.seed, teacher)
    learner = Learner(model.network, objectives, context.seed)
    steps = tuning.steps or count_steps(
        batches.rows_per_epoch(kind), documents, tuning.epochs, tuning.min_steps, tuning.max_steps
    )
    if tuning.lora is not None and tuning.freeze not in (0, "trunk"):
        raise UsageError(
            f"finetune.lora freezes the whole trunk and --freeze {tuning.freeze} a part of it: name one of them."
        )
    adapt.freeze(model, task, tuning.freeze if tuning.lora is None else "trunk")
    if tuning.lora is not None:
        adapt.add_lora(model, task, tuning.lora, context.seed)
    rates = adapt.layer_rates(model, task, tuning.layer_rate)
    validate = None
    if validation is not None and len(validation):
        metric = choosing_metric(model, task.ask[0], tuning.metric)
        validate = _heard(validator(model, task, validation, metric), context)
    context = context.but(recipe=_gentle(recipe, pretrained))
    train, limit, resumes = context.recipe.train, context.limit, context.resumes
    timed = timed_step_kind(batches, recipe.private)
    steps = steps_within(learner, batches, train, steps, limit, context.out, rates, resumes, timed)
    spent = spent_before(model.provenance)
    result = run_stage(stage, learner, batches, steps, context, validate, rates=rates, spent=spent)
    for parameter in model.network.parameters():
        parameter.requires_grad_(True)
    return result


def _heard(judge: Callable[[], Judgement], context: RunContext) -> Callable[[], Judgement]:
    """The same, told to whoever listens."""
    if context.on_validation is None:
        return judge
    hear = context.on_validation

    def judged() -> Judgement:
        judgement = judge()
        hear(judgement)
        return judgement

    return judged


def _gentle(recipe: Recipe, pretrained: bool) -> Recipe:
    """The recipe with the learning rates and the optimizer of fine-tuning."""
    train, tuning = recipe.train, recipe.finetune
    if tuning.lora is not None and "optimizer" not in train.model_fields_set:
        train = train.updated(optimizer="adamw")
    if pretrained:
        train = train.updated(lr=train.lr * tuning.rate, muon_lr=train.muon_lr * tuning.rate)
    return recipe.model_copy(update={"train": train})


def _with_propagated_labels(
    model: Model, data: Data, store: Store, task: Task, recipe: Recipe
) -> tuple[Store, np.ndarray]:
    """The training rows with the asked column filled, and weighed by how sure that is."""
    table = data.rows("train")
    values, sure = propagate_labels(model, store, task, table[task.ask[0]])
    filled = Table({**table.columns, task.ask[0]: values}, table.source, table.row)
    columns = [model.columns[name] for name in store.names]
    out = with_row_weights(encode(filled, columns, model.network.encoders, Ledger()), table, recipe.row_weight)
    out.row_weight = sure if out.row_weight is None else sure * out.row_weight
    return out, np.arange(len(table))


def _cross_validated(
    model: Model,
    store: Store,
    labelled: np.ndarray,
    task: Task,
    context: RunContext,
    train: Table,
    validation: Table,
) -> tuple[dict[str, float | None], dict[str, HeldOut]]:
    """How good the asked column is on held-out labels (by the metric that chooses; a loss is negated, so that higher is
    better), as the model is and after fine-tuning on the others; None where no fold could tell. And what fine-tuned
    models made of the held-out labels of each asked column, by which the one that is kept is calibrated.

    The model as it is may have seen the held-out labels in pretraining, and then knows them by heart: the comparison
    favours it. `context.limit` bounds each fine-tuning. A run that is stopped goes on with the fold at which it was.
    """
    name, recipe = task.ask[0], context.recipe
    metric = choosing_metric(model, name, recipe.finetune.metric)
    folds = min(recipe.finetune.folds, len(labelled))
    fold_of = np.empty(len(labelled), dtype=np.int64)
    fold_of[rng.permutation(rng.key(context.seed, "folds"), len(labelled))] = np.arange(len(labelled)) % folds
    quick = recipe.model_copy(update={"train": recipe.train.updated(tensorboard=False)})
    folder = context.out / "checkpoints"
    of = {
        "rows": store.digest(), "start": weights_digest(model.network), "given": task.given, "ask": task.ask,
        "recipe": recipe.model_dump(mode="json", exclude={"device"}), "seed": context.seed,
    }  # fmt: skip
    done = _folds_done(folder / SCORES, of) if context.resumes else {}  # fold to the values of both models
    for finished in done:  # a kill may have come before they were removed
        if (left := folder / f"fold-{finished}").exists():
            shutil.rmtree(left)
    made: dict[str, list[HeldOut]] = {}
    for fold in range(folds):
        held = labelled[fold_of == fold]
        held = held[store.index[held, store.names.index(name)] >= 0]
        if not len(held):
            continue
        if str(fold) not in done:
            tuned, rest = copy.deepcopy(model), labelled[fold_of != fold]
            inner = context.but(recipe=quick, out=folder / f"fold-{fold}", on_event=ignore)
            tune(tuned, store, rest, task, inner, True, validation)  # as the last training will be
            values = [validator(candidate, task, train.take(held), metric)().value for candidate in (model, tuned)]
            context.on_event(FoldDone(fold + 1, folds, metric.name, *values))
            done[str(fold)] = values
            with disk_errors(folder):
                for i, ask in enumerate(task.ask):
                    if (own := held_out(tuned, task.given, ask, store.subset(held))) is not None:
                        own.save(folder / FOLD_ANSWERS.format(fold, i))
                write_json_whole(folder / SCORES, {"of": of, "folds": done})
            shutil.rmtree(inner.out)
        for i, ask in enumerate(task.ask):
            if (path := folder / FOLD_ANSWERS.format(fold, i)).exists():
                made.setdefault(ask, []).append(HeldOut.load(path))
    joined = {ask: HeldOut.join(several) for ask, several in made.items()}
    sign = 1 if metric.higher_is_better else -1
    complete = [values for values in done.values() if None not in values]  # a fold of one class tells nothing of an AUC
    if not complete:
        return dict.fromkeys(_COMPARED), joined
    before, after = np.array(complete, dtype=np.float64).mean(0)
    calibration = calibration_by(model, name, joined[name]) if name in joined else None
    if calibration is not None:  # as good as it will be with it
        after = calibration.after.get(metric.name, after)
    return dict(zip(_COMPARED, [float(sign * before), float(sign * after)], strict=True)), joined


def _folds_done(path: Path, of: dict[str, Any]) -> dict[str, list[float | None]]:
    """What a stopped run had found out; nothing where that is of another run."""
    try:
        saved = read_json(path)
    except ModelFileError:
        return {}
    return saved["folds"] if saved.get("of") == of else {}


def _better_start(scores: dict[str, float | None]) -> str:
    """The model as it was, unless training is known to help."""
    before, after = scores["pretrained"], scores["fine-tuned"]
    return "fine-tuned" if before is not None and after is not None and after > before else "pretrained"


def _as_decision(choice: Choice) -> Decision:
    reason = f"cross-validated on the {choice.labelled_rows:,} labelled rows"
    return Decision(f"the {choice.kept} model", reason, dict(choice.cross_validation or {}))
