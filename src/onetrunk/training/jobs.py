"""Whole runs that leave a model folder to go on from: what the verbs pretrain and finetune do. `train` and `evaluate`
have files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onetrunk.core.events import Listener, Note, Saved, ignore
from onetrunk.engine.checkpoint import clear_run
from onetrunk.inference.adapter import base_digest
from onetrunk.inference.model_folder import Model
from onetrunk.storage.locks import locks_end
from onetrunk.training.context import RunContext
from onetrunk.training.cost import RunCost
from onetrunk.training.distil import both_met, open_teacher, teach
from onetrunk.training.finetune import finetune_model
from onetrunk.training.open_data import open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.output import Output, command_digest
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.private import private_recipe
from onetrunk.training.private_wide import private_wide
from onetrunk.training.recipe import Recipe, budget_seconds, memory_bytes, recipe_of
from onetrunk.training.select import choosing_metric
from onetrunk.training.stage import extend_model, new_model
from onetrunk.training.start import start_from


@locks_end()
def run_pretraining(data: Any, options: TrainingOptions, on_event: Listener = ignore) -> Model:
    """Pretrains a model on a table, from nothing or from another model, and saves it."""
    recipe = private_recipe(recipe_of(options), on_event)
    cost = RunCost("pretrain", recipe)
    output = Output(options.out, options.overwrite, command_digest("pretrain", options, recipe))
    model, recipe = start_from(options.start, recipe, options.allow_network, options.seed)
    opened = open_data(data, options, recipe, on_event, start=model)
    output.open(opened)
    model = pretrain_model(opened, run_context(options, recipe, output, on_event), model)
    cost.keep(model)
    saved = save_model(model, output, "foundation model", on_event, private=recipe.private is not None)
    cost.tell(on_event)
    return saved


@locks_end()
def run_finetuning(
    data: Any,
    options: TrainingOptions,
    on_event: Listener = ignore,
    *,
    teacher: str | None = None,
    restructure: bool = False,
) -> Model:
    """Fine-tunes a model on one task, from a foundation model or from nothing, and saves it. With a `teacher`, a larger
    model folder, it learns from its answers too; with `restructure`, settings may change the model that it starts
    from."""
    recipe = private_recipe(recipe_of(options), ignore, teacher)  # objectives are pretraining's
    cost = RunCost("finetune", recipe)
    command = command_digest("finetune", options, recipe, teacher=teacher, restructure=restructure)
    output = Output(options.out, options.overwrite, command)
    model, recipe = start_from(options.start, recipe, options.allow_network, options.seed, restructure)
    above = None if teacher is None else open_teacher(teacher, model)
    if above is not None:
        recipe = recipe.model_copy(update={"attention": "causal" if above.network.given_causal else "bidirectional"})
    opened = open_data(data, options, recipe, on_event, start=both_met(above, model))
    output.open(opened)
    if model is None:
        model = new_model(opened, recipe, options.seed, above)
    else:
        extend_model(model, opened, options.seed, recipe.finetune, on_event)
    if above is not None:
        teach(model, above, opened, recipe.finetune.distil, on_event)
    context = run_context(options, recipe, output, on_event)
    context = context.but(teacher=above)
    tuned = private_wide(opened, context, model) if options.start is None else None
    tuned = tuned or finetune_model(opened, context, model, pretrained=options.start is not None)
    model = tuned.model
    if teacher is not None:
        model.provenance["teacher"] = {"name": Path(teacher).name, "digest": base_digest(Path(teacher))}
    cost.keep(model)
    saved = save_model(model, output, "model", on_event, private=recipe.private is not None)
    cost.tell(on_event)
    if tuned.choice.validation is not None:
        metric = choosing_metric(model, opened.ask[0], recipe.finetune.metric)
        score = f"{metric.name} {tuned.choice.validation:.4g}"
        on_event(
            Note(f"On the validation rows that chose its best step: {score}. onetrunk evaluate measures it on others.")
        )
    return saved


def run_context(options: TrainingOptions, recipe: Recipe, output: Output, on_event: Listener) -> RunContext:
    limit, recipe = budget_seconds(options.budget), with_shares(recipe, output)
    return RunContext(
        recipe, output.path, options.seed, options.max_bad, limit, on_event, output,
        max_memory=memory_bytes(options.max_memory),
    )  # fmt: skip


def with_shares(recipe: Recipe, output: Output) -> Recipe:
    """A run that goes on divides its steps as it did, by however many processes it is made now."""
    shares = recipe.train.shares or output.shares
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"shares": shares})})


def save_model(model: Model, output: Output, what: str, on_event: Listener, *, private: bool = False) -> Model:
    """`private`: what the run left beside the model is removed; losses of rows, and the secret of its noise."""
    model.save(output.path, overwrite=output.replaces)
    output.finish()
    if private:
        clear_run(output.path)
    on_event(Saved(what, str(output.path)))
    return model
