"""Whole runs, from a table to a model folder: what the verbs pretrain, finetune, train and evaluate do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.events import Listener, Note, Saved, ignore
from onetrunk.data.ledger import Ledger
from onetrunk.data.seen_rows import record, splits_before
from onetrunk.data.table import Table
from onetrunk.evaluation.baselines import BASELINE_SECONDS
from onetrunk.evaluation.evidence_folder import evaluate_model, judged_tasks
from onetrunk.evaluation.fitted_baselines import FittedBaselines
from onetrunk.evaluation.record import Evidence
from onetrunk.evaluation.words import headline
from onetrunk.inference.adapter import base_digest
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.storage import atomic, hub
from onetrunk.storage.locks import lock_folder, locks_end
from onetrunk.training.beside_wide import begins_wide, rather_wide, train_beside_wide
from onetrunk.training.context import RunContext
from onetrunk.training.distil import both_met, open_teacher, teach
from onetrunk.training.finetune import Choice, finetune_model
from onetrunk.training.open_data import Data, open_data, read_table, seen_splits
from onetrunk.training.options import DataOptions, TrainingOptions
from onetrunk.training.output import EVALUATING, PRETRAINED, Output, command_digest
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.recipe import Recipe, budget_seconds, make_recipe
from onetrunk.training.select import choosing_metric
from onetrunk.training.stage import extend_model, new_model
from onetrunk.training.start import start_from
from onetrunk.training.time_budget import TimeBudget

# Of a budget; the rest is for encoding, validating and judging.
_PRETRAINING, _FINETUNING = 0.6, 0.3
_LEAST_BASELINES = 5.0  # seconds, however late it is
_SECONDS, _ROWS, _MAX_SECONDS = 300.0, 20_000, 1800.0  # of a run on so many rows, where no budget is given


@locks_end()
def run_pretraining(data: Any, options: TrainingOptions, on_event: Listener = ignore) -> Model:
    """Pretrains a model on a table, from nothing or from another model, and saves it."""
    recipe = recipe_of(options)
    output = Output(options.out, options.overwrite, command_digest("pretrain", options, recipe))
    model, recipe = start_from(options.start, recipe, options.allow_network, options.seed)
    opened = open_data(data, options, recipe, on_event, start=model)
    output.open(opened)
    model = pretrain_model(opened, _context(options, recipe, output, on_event), model)
    return _save(model, output, "foundation model", on_event)


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
    recipe = recipe_of(options)
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
    context = _context(options, recipe, output, on_event)
    tuned = finetune_model(opened, context.but(teacher=above), model, pretrained=options.start is not None)
    model = tuned.model
    if teacher is not None:
        model.provenance["teacher"] = {"name": Path(teacher).name, "digest": base_digest(Path(teacher))}
    saved = _save(model, output, "model", on_event)
    if tuned.choice.validation is not None:
        metric = choosing_metric(model, opened.ask[0], recipe.finetune.metric)
        score = f"{metric.name} {tuned.choice.validation:.4g}"
        on_event(
            Note(f"On the validation rows that chose its best step: {score}. onetrunk evaluate measures it on others.")
        )
    return saved


@locks_end()
def run_training(data: Any, options: TrainingOptions, on_event: Listener = ignore) -> Model:
    """The whole way, from a table to a model that is judged on the test rows. Rows that have their answers are learnt
    beside what simple models know (`training.beside_wide`); else the model is pretrained (unless there is one to start
    from) and fine-tuned."""
    began = time.monotonic()
    recipe, out = recipe_of(options), Path(options.out)
    command, foundation = command_digest("train", options, recipe), Path(f"{options.out}-foundation")
    output, starts = Output(out, options.overwrite, command), [options.start]
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
    context = _context(options, own, output, on_event)
    clock = TimeBudget(context.limit or default_seconds(opened), began)
    judge = _Judge(opened, out, options, clock, on_event)
    tuned = None
    if output.stage != EVALUATING and model is None and options.start is None and begins_wide(opened, own):
        tuned = train_beside_wide(opened, context, clock, _Keeper(output, out, judge))
    if output.stage != EVALUATING and tuned is None:
        limit = context.limit if counts_steps(own) else clock.left
        if model is None:
            model = _foundation(opened, context.but(limit=limit), Output(foundation, options.overwrite, command))
            output.mark(PRETRAINED)
        else:
            extend_model(model, opened, options.seed, own.finetune, on_event)
        tuned = finetune_model(opened, context.but(limit=_share(limit, _FINETUNING)), model, pretrained=True)
        if options.start is None:
            tuned = rather_wide(tuned, opened, context.but(limit=limit))
    if tuned is None:
        made = load(out, device=own.device)
    else:
        made = tuned.model
        made.provenance["decision"] = tuned.choice.as_json()
        made.save(out, overwrite=output.replaces or (out / atomic.MANIFEST).exists())
        output.mark(EVALUATING)  # from here on a run that is stopped only judges it
    judge(made)
    Output(foundation, True, command).finish()  # it was made for this model
    output.finish()
    on_event(Saved("model", str(out)))
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
            baseline_seconds=left, fitted_baselines=None if self.baselines is None else self.baselines.on_test(),
            on_event=ignore if early else self.on_event,
        )  # fmt: skip
        if early:
            for task in evidence.tasks:
                self.on_event(Note(f"{self.out} already holds a usable model; training goes on. {headline(task)}"))


class _Keeper:
    """Puts a model in the run's folder, with its evidence, from where a stopped run can be used and goes on."""

    def __init__(self, output: Output, out: Path, judge: _Judge) -> None:
        self.output, self.out, self.judge = output, out, judge

    def __call__(self, model: Model, choice: Choice, baselines: FittedBaselines) -> None:
        self.output.begin()
        model.provenance["decision"] = choice.as_json()
        model.save(self.out, overwrite=self.output.replaces or (self.out / atomic.MANIFEST).exists())
        self.judge.baselines = baselines
        self.judge(model, seconds=0.0)


def counts_steps(recipe: Recipe) -> bool:
    """Does the recipe say how many steps there are? Then no clock does, unless there is a budget."""
    return "steps" in recipe.pretrain.model_fields_set or "steps" in recipe.finetune.model_fields_set


def default_seconds(opened: Data) -> float:
    """Seconds that pay on a table of so many rows, where nobody says."""
    return float(np.clip(_SECONDS * len(opened.table) / _ROWS, _SECONDS, _MAX_SECONDS))


def _foundation(opened: Data, context: RunContext, output: Output) -> Model:
    """Pretrains a model, and saves it beside the one that is made from it."""
    output.open(opened)
    context = context.but(out=output.path, output=output, limit=_share(context.limit, _PRETRAINING))
    model = pretrain_model(opened, context)
    model.save(output.path, overwrite=output.replaces)
    return model


@locks_end()
def run_evaluation(
    folder: str,
    data: Any,
    options: DataOptions,
    on_event: Listener = ignore,
    *,
    against: Any = None,
    beside: Sequence[str] = (),
) -> Evidence:
    """Judges a model folder on rows that it has not seen, beside baselines of the rows `against` and the models of the
    folders `beside`; leaves evidence/ and README.md in the folder."""
    device = options.device or "auto"
    if folder.startswith(hub.HUB):
        raise UsageError(
            f"{folder} lies in the cache of the hub, and evidence is left in the model's own folder: copy it first "
            "(hf download OWNER/NAME --local-dir MODEL), then evaluate MODEL."
        )
    model, ledger = load(folder, device=device), Ledger()
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
        seed=options.seed, max_bad=options.max_bad, ledger=ledger, beside=others, on_event=on_event,
    )  # fmt: skip


def recipe_of(options: TrainingOptions) -> Recipe:
    """The settings of a run: its YAML file, then its flags, then `key=value` settings. What is wrong in them, or in its
    budget, is refused before any work."""
    budget_seconds(options.budget)
    flags = {"size": options.size, "events": options.events, "device": options.device}
    return make_recipe(options.config, options.settings, **flags)


def _context(options: TrainingOptions, recipe: Recipe, output: Output, on_event: Listener) -> RunContext:
    limit = budget_seconds(options.budget)
    return RunContext(recipe, output.path, options.seed, options.max_bad, limit, on_event, output)


def _share(limit: float | None, share: float) -> float | None:
    return None if limit is None else share * limit


def _save(model: Model, output: Output, what: str, on_event: Listener) -> Model:
    model.save(output.path, overwrite=output.replaces)
    output.finish()
    on_event(Saved(what, str(output.path)))
    return model


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
