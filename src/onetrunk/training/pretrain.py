"""Pretraining: self-supervised training over every column."""

from __future__ import annotations

from onetrunk.core.errors import DataError
from onetrunk.core.objective import Objective, ObjectiveConfig
from onetrunk.core.registry import objectives as objective_kinds
from onetrunk.data.loader import Loader
from onetrunk.data.store import Store
from onetrunk.inference.model_folder import Model, Task
from onetrunk.objectives import Learner
from onetrunk.training.batches import count_steps, loader, steps_within
from onetrunk.training.context import RunContext
from onetrunk.training.open_data import Data
from onetrunk.training.private import refuse_rows_learnt_before, spent_before, timed_step_kind
from onetrunk.training.recipe import Recipe
from onetrunk.training.stage import encode_rows, extend_model, new_model, provenance, run_stage


def pretrain_model(data: Data, context: RunContext, model: Model | None = None) -> Model:
    """Self-supervised training on the training rows, labelled or not: of a new model, or of one that exists."""
    if context.recipe.private is not None:
        refuse_rows_learnt_before(model, data)
    if model is None:
        model = new_model(data, context.recipe, context.seed)
    else:
        extend_model(model, data, context.seed, on_event=context.on_event)
    store = encode_rows(model, data, "train", context.recipe)
    context.show_ledger(data, len(store.index))
    batches, objectives, steps = schedule(store, context.recipe, context.seed)
    learner = Learner(model.network, objectives, context.seed)
    steps = steps_within(
        learner, batches, context.recipe.train, steps, context.limit, context.out, resume=context.resumes,
        step_kind=timed_step_kind(batches, context.recipe.private),
    )  # fmt: skip
    weights = {o.tag: o.config.weight for o in objectives}
    result = run_stage(
        "pretraining", learner, batches, steps, context, weights=weights, spent=spent_before(model.provenance)
    )
    task = Task(list(data.given), list(data.ask))
    model.tasks = [task] if task.ask else []
    model.provenance = provenance(model, data, context, result, "pretrain", model.provenance)
    return model


def schedule(store: Store, recipe: Recipe, seed: int, share: float = 1.0) -> tuple[Loader, list[Objective], int]:
    """Pretraining on a store: its batches, its objectives, and for how many steps, if these are such a share of the
    rows."""
    batches, objectives = loader(store, _useful(recipe.pretrain.objectives, store), recipe, seed)
    rows = max(batches.rows_per_epoch(o.tag) for o in objectives)
    documents = max(o.config.documents for o in objectives)
    settings = recipe.pretrain
    steps = settings.steps or count_steps(
        round(rows / share), documents, settings.epochs, settings.min_steps, settings.max_steps
    )
    return batches, objectives, steps


def _useful(objectives: list[ObjectiveConfig], store: Store) -> list[ObjectiveConfig]:
    """Leaves out objectives that this table gives nothing to (two views of a plain number)."""
    present, windows = store.present, store.windows()
    kept = [
        config
        for config in objectives
        if objective_kinds.get(config.kind)(config.kind, config, store.names, store.encoders)
        .turns(present, windows)
        .any()
    ]
    if not kept:
        raise DataError("There is nothing to learn from: every training row is empty in the chosen columns.")
    return kept
