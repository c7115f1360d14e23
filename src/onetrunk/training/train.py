"""The whole way, from a table to a model that is judged on rows that it has not seen: what the verb train does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.events import Listener, Note, Saved, ignore
from onetrunk.evaluation.baselines import BASELINE_SECONDS
from onetrunk.evaluation.evidence_folder import evaluate_model, judged_tasks
from onetrunk.evaluation.fitted_baselines import FittedBaselines
from onetrunk.evaluation.words import headline
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.storage import atomic
from onetrunk.storage.locks import locks_end
from onetrunk.training.beside_wide import (
    Keeper,
    can_be_wide,
    needs_no_pretraining,
    the_better,
    train_beside,
    wide_model,
)
from onetrunk.training.context import RunContext
from onetrunk.training.cost import RunCost
from onetrunk.training.finetune import Choice, FineTuned, cross_validates, finetune_model, validation_rows
from onetrunk.training.jobs import run_context
from onetrunk.training.open_data import Data, open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.output import EVALUATING, PRETRAINED, Output, command_digest, shares_of_run
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.private import not_here
from onetrunk.training.recipe import Recipe, recipe_of
from onetrunk.training.stage import extend_model, new_model
from onetrunk.training.start import start_from
from onetrunk.training.time_budget import TimeBudget

_PRETRAINING = 2 / 3  # of the time that is left for training; the rest is for fine-tuning
_LEAST_BASELINES = 5.0  # seconds, however late it is
_LEAST_TUNING = 15.0  # seconds in which a foundation can become better than what simple models know
_SECONDS, _ROWS, _MAX_SECONDS = 300.0, 20_000, 1800.0  # of a run on so many rows, where no budget is given


@locks_end()
def run_training(data: Any, options: TrainingOptions, on_event: Listener = ignore) -> Model:
    """The whole way, from a table to a model that is judged on the test rows (`best_model`). A usable model is left as
    soon as there is one."""
    began = time.monotonic()
    recipe, out = not_here(recipe_of(options), "train"), Path(options.out)
    cost = RunCost("train", recipe)
    command, foundation = command_digest("train", options, recipe), Path(f"{options.out}-foundation")
    output, starts = Output(out, options.overwrite, command, beside=[foundation]), [options.start]
    output.shares = shares_of_run(out, command) or shares_of_run(foundation, command) or output.shares
    if options.start is None and (foundation / atomic.MANIFEST).exists() and (output.stage or not options.overwrite):
        on_event(Note(f"Going on from {foundation}, which an earlier run made (--overwrite makes it anew)."))
        starts.insert(0, str(foundation))
    for start in starts:
        model, own = start_from(start, recipe, options.allow_network, options.seed)
        opened = open_data(data, options, own, on_event, start=model)
        output.open(opened)
        if output.stage or not options.overwrite:
            break  # else the foundation is of other rows, and made anew
    judged_tasks([Task([], list(opened.ask))], opened.rows("test"))  # raises now what it would after training
    context = run_context(options, own, output, on_event)
    clock = TimeBudget(context.limit or default_seconds(opened), began)
    judge = _Judge(opened, out, options, clock, on_event)
    if output.stage == EVALUATING:
        made = load(out, device=own.device)
    else:

        def pretrain(limit: float | None) -> Model:
            beside = Output(foundation, options.overwrite, command)
            made = _foundation(opened, context.but(limit=limit), beside, cost)
            output.mark(PRETRAINED)
            return made

        tuned = best_model(opened, context, clock, model, pretrain, _Keeper(output, out, judge, cost))
        made = tuned.model
        made.provenance["decision"] = tuned.choice.as_json()
        cost.keep(made)
        made.save(out, overwrite=output.replaces or (out / atomic.MANIFEST).exists())
        output.mark(EVALUATING)  # from here on a run that is stopped only judges it
    judge(made)
    Output(foundation, True, command).finish()  # it was made for this model
    output.finish()
    on_event(Saved("model", str(out)))
    cost.tell(on_event)
    return made


def best_model(
    data: Data,
    context: RunContext,
    clock: TimeBudget,
    start: Model | None = None,
    pretrain: Callable[[float | None], Model] | None = None,
    keep: Keeper | None = None,
) -> FineTuned:
    """The best model of one task that the time allows. First comes what simple models know, wherever they can learn the
    task. Where rows have their answers, a trunk is trained beside it. Else `start`, or what `pretrain` makes in so many
    seconds, is fine-tuned, and kept if it is the better one."""
    recipe = context.recipe
    wide = wide_model(data, context, clock, keep) if can_be_wide(data, recipe) else None
    if wide is not None and start is None and needs_no_pretraining(data, recipe):
        return train_beside(wide, data, context, clock)
    timed = context.limit is not None or not counts_steps(recipe)
    if wide is not None and timed and clock.left < _LEAST_TUNING:
        context.on_event(Note("Nothing more is trained: too little time is left (a larger --budget does)."))
        return FineTuned(wide.model, wide.choice)
    if start is not None:
        model = start
        extend_model(model, data, context.seed, recipe.finetune, context.on_event)
    elif pretrain is not None:
        model = pretrain(_PRETRAINING * clock.left if timed else None)
        extend_model(model, data, context.seed, recipe.finetune, context.on_event)
    else:
        model = new_model(data, recipe, context.seed)
    context = context.but(limit=clock.left if timed else None)
    tuned = finetune_model(data, context, model, pretrained=start is not None or pretrain is not None)
    return tuned if wide is None else the_better(wide, tuned, data, context)


class _Judge:
    """Judges a model of this run on the test rows. Baselines that have answered them need not do so again."""

    def __init__(
        self, opened: Data, out: Path, options: TrainingOptions, clock: TimeBudget, on_event: Listener
    ) -> None:
        self.opened, self.out, self.options, self.clock, self.on_event = opened, out, options, clock, on_event
        self.baselines: FittedBaselines | None = None

    def __call__(self, model: Model, seconds: float | None = None) -> None:
        """`seconds` is what baselines may take that have not answered yet."""
        early = seconds is not None
        left = seconds if seconds is not None else min(BASELINE_SECONDS, max(_LEAST_BASELINES, self.clock.before_end))
        evidence = evaluate_model(
            model, self.opened.rows("test"), self.opened.rows("train"), self.out, seed=self.options.seed,
            baseline_seconds=left, lang=self.options.lang,
            fitted_baselines=None if self.baselines is None else self.baselines.on_test(),
            on_event=ignore if early else self.on_event,
        )  # fmt: skip
        if early:
            for task in evidence.tasks:
                self.on_event(Note(f"{self.out} already holds a usable model; training goes on. {headline(task)}"))


class _Keeper:
    """Puts a model in the run's folder, with its evidence, from where a stopped run can be used and goes on."""

    def __init__(self, output: Output, out: Path, judge: _Judge, cost: RunCost) -> None:
        self.output, self.out, self.judge, self.cost = output, out, judge, cost

    def __call__(self, model: Model, choice: Choice, baselines: FittedBaselines) -> None:
        self.output.begin()
        model.provenance["decision"] = choice.as_json()
        self.cost.keep(model)
        model.save(self.out, overwrite=self.output.replaces or (self.out / atomic.MANIFEST).exists())
        self.judge.baselines = baselines
        self.judge(model, seconds=0.0)


def counts_steps(recipe: Recipe) -> bool:
    """Does the recipe say how many steps there are? Then no clock does, unless there is a budget."""
    return "steps" in recipe.pretrain.model_fields_set or "steps" in recipe.finetune.model_fields_set


def default_seconds(opened: Data) -> float:
    """Seconds that pay on a table of so many rows, where nobody says."""
    return float(np.clip(_SECONDS * len(opened.table) / _ROWS, _SECONDS, _MAX_SECONDS))


def _foundation(opened: Data, context: RunContext, output: Output, cost: RunCost) -> Model:
    """Pretrains a model, and saves it beside the one that is made from it. Where few answers are to be cross-validated
    it sees none of them: it would be judged by what it had learnt by heart."""
    output.open(opened)
    context = context.but(out=output.path, output=output)
    if opened.given and cross_validates(validation_rows(opened, Task(list(opened.given), list(opened.ask)))):
        opened = replace(opened, ask=[])
    model = pretrain_model(opened, context)
    cost.keep(model)
    model.save(output.path, overwrite=output.replaces)
    return model
