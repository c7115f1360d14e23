"""The whole way, from a table to a model that is judged on rows that it has not seen: what the verb train does."""

from __future__ import annotations

import time
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
from onetrunk.training.beside_wide import begins_wide, rather_wide, train_beside_wide
from onetrunk.training.context import RunContext
from onetrunk.training.cost import RunCost
from onetrunk.training.finetune import Choice, finetune_model
from onetrunk.training.jobs import run_context, share_of
from onetrunk.training.open_data import Data, open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.output import EVALUATING, PRETRAINED, Output, command_digest, shares_of_run, take_over
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.private import not_here
from onetrunk.training.recipe import Recipe, recipe_of
from onetrunk.training.stage import extend_model
from onetrunk.training.start import start_from
from onetrunk.training.time_budget import TimeBudget

# Of a budget; the rest is for encoding, validating and judging.
_PRETRAINING, _FINETUNING = 0.6, 0.3
_LEAST_BASELINES = 5.0  # seconds, however late it is
_SECONDS, _ROWS, _MAX_SECONDS = 300.0, 20_000, 1800.0  # of a run on so many rows, where no budget is given


@locks_end()
def run_training(data: Any, options: TrainingOptions, on_event: Listener = ignore) -> Model:
    """The whole way, from a table to a model that is judged on the test rows. Rows that have their answers are learnt
    beside what simple models know (`training.beside_wide`); else the model is pretrained (unless there is one to start
    from) and fine-tuned."""
    began = time.monotonic()
    recipe, out = not_here(recipe_of(options), "train"), Path(options.out)
    cost = RunCost("train", recipe)
    command, foundation = command_digest("train", options, recipe), Path(f"{options.out}-foundation")
    output, starts = Output(out, options.overwrite, command), [options.start]
    take_over(foundation)
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
    tuned = None
    if output.stage != EVALUATING and model is None and options.start is None and begins_wide(opened, own):
        tuned = train_beside_wide(opened, context, clock, _Keeper(output, out, judge, cost))
    if output.stage != EVALUATING and tuned is None:
        limit = context.limit if counts_steps(own) else clock.left
        if model is None:
            model = _foundation(opened, context.but(limit=limit), Output(foundation, options.overwrite, command), cost)
            output.mark(PRETRAINED)
        else:
            extend_model(model, opened, options.seed, own.finetune, on_event)
        tuned = finetune_model(opened, context.but(limit=share_of(limit, _FINETUNING)), model, pretrained=True)
        if options.start is None:
            tuned = rather_wide(tuned, opened, context.but(limit=limit))
    if tuned is None:
        made = load(out, device=own.device)
    else:
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
    """Pretrains a model, and saves it beside the one that is made from it."""
    output.open(opened)
    context = context.but(out=output.path, output=output, limit=share_of(context.limit, _PRETRAINING))
    model = pretrain_model(opened, context)
    cost.keep(model)
    model.save(output.path, overwrite=output.replaces)
    return model
