"""What `tune` does: opens a table, makes trials within a time, and leaves the best model with its evidence.

What trials share is made once: encoded rows, the wide read-outs, and for each size one pretrained model. A trial is
compared on the validation rows; the test rows are looked at once, at the end.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.errors import DataError, InterruptedRunError, ResourceError, UsageError
from onetrunk.core.events import Listener, Note, Saved, ignore
from onetrunk.engine.mode import Mode
from onetrunk.engine.planning import memory
from onetrunk.engine.runtime import Runtime
from onetrunk.evaluation.evidence_folder import evaluate_model, judged_tasks
from onetrunk.evaluation.figures import render
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.nn.lora import LoRAConfig
from onetrunk.nn.restructure import restructured
from onetrunk.nn.transformer import Transformer
from onetrunk.storage import atomic
from onetrunk.storage.locks import FileLock
from onetrunk.storage.strict_json import read_json
from onetrunk.training.beside_wide import (
    WideReadouts,
    apart,
    attach_wide,
    can_be_wide,
    fit_wide_readouts,
    patient,
    row_scores,
    wide_rows_of,
)
from onetrunk.training.calibrate import MIN_ROWS, calibrate
from onetrunk.training.context import RunContext
from onetrunk.training.cost import RunCost
from onetrunk.training.dry_run import DryRun, Source
from onetrunk.training.finetune import labelled_rows, merged_adapter, validation_rows
from onetrunk.training.finetune import tune as fine_tune
from onetrunk.training.open_data import Data, open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.output import EVALUATING, Output, command_digest
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.private import not_here
from onetrunk.training.recipe import SIZES, Recipe, budget_seconds, memory_bytes, recipe_of
from onetrunk.training.search import LOCK, Search, Space
from onetrunk.training.select import Judgement
from onetrunk.training.stage import encode_rows, extend_model, new_model, provenance, untrained
from onetrunk.training.start import start_from
from onetrunk.training.trials import STARTED, Method, Outcome, Report, TrialSettings, best, mean_and_error

_SIZES = ("nano", "tiny", "small", "base")  # that are searched; the last on accelerators only
_TRAINING = 0.75  # of a trial's time; the rest is for validating and saving
_PRETRAINING = 2.0  # times a trial's time, once for each size
_BASELINES, _MAX_BASELINES = 0.06, 60.0  # of the time for the baselines of the evidence, and seconds at most
_REPORT, _PICTURES = 2.0, 8  # seconds for files; how often the time of one picture the others take


def run_tuning(
    data: Any,
    options: TrainingOptions,
    on_event: Listener = ignore,
    *,
    trials: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Model:
    """Searches, saves the best model and judges it on the test rows. The same command goes on where it was killed, and
    shares its trials with others of its kind that run at the same time. Each has the whole budget."""
    started = clock()
    seconds = budget_seconds(options.budget)
    assert seconds is not None, "the verb has a default"
    if trials is not None and trials < 1:
        raise UsageError(f"--trials expects a whole number from 1; found {trials}.")
    most_bytes = memory_bytes(options.max_memory)
    recipe = not_here(recipe_of(options), "tune")
    cost = RunCost("tune", recipe)
    command = command_digest("tune", options, recipe, trials=trials, max_memory=options.max_memory)
    journal = Path(f"{options.out}-tuning")
    Output(options.out, options.overwrite, command, together=True)  # refuses before any work what cannot be put there
    start, recipe = start_from(options.start, recipe, options.allow_network, options.seed)
    opened = open_data(data, options, recipe, on_event, start=start)
    judged_tasks([Task([], list(opened.ask))], opened.rows("test"))  # raises now what it would in the end
    output = _enter(options, command, opened, journal)
    context = RunContext(recipe, journal, options.seed, options.max_bad, on_event=on_event)
    runner = TableRunner(opened, context, start, output, most_bytes)
    runner.reserved = min(0.5 * seconds, _REPORT + _PICTURES * _picture_seconds(clock) + _baseline_seconds(seconds))
    left = max(1.0, seconds - (clock() - started))
    search = Search(journal, runner.space, runner, left, trials, options.seed, on_event, clock)
    if output.stage != EVALUATING:
        try:
            search.run()
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"Stopped. The trials that have ended are kept in {journal}, and the best model so far is in "
                f"{options.out}. The same command goes on.",
                error.exit_code - 128,
            ) from None
    model = _judge(search, runner, opened, options, seconds, cost, on_event)
    on_event(Saved("model", str(options.out)))
    cost.tell(on_event)
    return model


def _picture_seconds(clock: Callable[[], float]) -> float:
    """Seconds that a picture of the evidence takes on this machine, as it is now."""
    for _ in range(2):  # the first imports what draws
        started = clock()
        render(lambda axes: bool(axes.plot([0, 1])))
    return clock() - started


def _baseline_seconds(seconds: float) -> float:
    return min(_MAX_BASELINES, _BASELINES * seconds)


def _enter(options: TrainingOptions, command: str, data: Data, journal: Path) -> Output:
    """Marks the folder as this command's, one process after the other: the first makes it anew, others go on in it."""
    with FileLock(journal / LOCK):
        output = Output(options.out, options.overwrite, command, together=True)
        output.open(data)
        if output.of_another and not options.overwrite:
            raise UsageError(
                f"{options.out} holds what another command began. Give that command again to go on, name another "
                "--out, or begin anew: --overwrite"
            )
        if not output.goes_on:
            for entry in journal.iterdir():
                if entry.name != LOCK:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        output.begin()
        return output


def _judge(
    search: Search,
    runner: TableRunner,
    data: Data,
    options: TrainingOptions,
    seconds: float,
    cost: RunCost,
    on_event: Listener,
) -> Model:
    """The evidence of the best model, with all trials; nobody else writes meanwhile."""
    out, output = Path(options.out), runner.output
    with search.lock:
        trials = search.trials()
        if best(trials) is None or runner.kept is None:
            reason = next((each.note for each in trials if each.note), "none has ended")
            raise ResourceError(f"No trial came to a model: {reason}")
        model = load(out, device=runner.recipe.device)
        model.provenance["trials"] = [trial.as_json() for trial in trials]
        cost.keep(model)
        model.save(out, overwrite=True)
        output.mark(EVALUATING)
        evaluate_model(
            model, data.rows("test"), data.rows("train"), out,
            seed=options.seed, max_bad=options.max_bad, baseline_seconds=_baseline_seconds(seconds),
            lang=options.lang, on_event=on_event,
        )  # fmt: skip
        output.finish()
        if not search.others:
            shutil.rmtree(search.place)
    return model


class TableRunner:
    """Makes models of opened rows, and keeps the best in the folder of `output`."""

    def __init__(
        self, data: Data, context: RunContext, start: Model | None, output: Output, most_bytes: float | None
    ) -> None:
        self.data, self.context, self.start, self.output = data, context, start, output
        self.recipe, self.task = context.recipe, Task(list(data.given), list(data.ask))
        self.validation = validation_rows(data, self.task)
        if len(self.validation) < MIN_ROWS:
            raise DataError(
                f"tune compares models on validation rows, {MIN_ROWS} at least; {len(self.validation)} have a value in "
                f"{', '.join(data.ask)}. Give more labelled rows, or hold out more of them: --split random:60/20/20"
            )
        if start is None:
            self._base = new_model(data, self._sized(_SIZES[0]), context.seed)
        else:
            extend_model(start, data, context.seed, self.recipe.finetune, context.on_event)
            self._base = start
        self.store = encode_rows(self._base, data, "train", self.recipe)
        context.show_ledger(data, len(self.store.index))
        self.labelled = labelled_rows(self.store, self.task)
        self.wide = can_be_wide(data, self.recipe)
        self._fits: WideReadouts | None = None
        self.reserved = 0.0
        self._answering = 0.0  # seconds for the test rows, of what is reserved
        self.space = self._space(most_bytes)

    # -- what is searched --------------------------------------------------------------------------------------------
    def _space(self, most_bytes: float | None) -> Space:
        if self.start is not None:
            sizes, methods = ["as it is"], list(STARTED)
        else:
            sizes, methods = self._sizes(most_bytes), ["scratch", *STARTED]
        if not isinstance(self._base.network.trunk, Transformer):
            methods.remove("lora")
        dropout = float(self.recipe.trunk.get("dropout", 0.0))
        plain = TrialSettings(methods[0], sizes[0], 1.0, dropout, self.recipe.train.weight_decay)
        first = [replace(plain, method=method) for method in methods[:2]]
        if self.wide:
            first.insert(0, replace(plain, method="wide"))
        return Space(sizes, methods, first, sorted({0.0, 0.1, 0.2, 0.3, dropout}))

    def _sizes(self, most_bytes: float | None) -> list[str]:
        """Those that fit in memory; the one that was asked for where one was."""
        runtime = Runtime.open(self.recipe.device)
        sizes = list(_SIZES if runtime.device.type != "cpu" else _SIZES[:-1])
        if "size" in self.recipe.model_fields_set:
            sizes = [self.recipe.size]
        limit = min(most_bytes or np.inf, runtime.memory_bytes)
        needs = {size: self._needs(size) for size in sizes}
        fitting = [size for size, need in needs.items() if need <= limit]
        for size in [size for size in sizes if size not in fitting]:
            message = f"Size {size} is left out: it would need {needs[size] / 1e9:.2g} GB of {limit / 1e9:.2g}."
            self.context.on_event(Note(message))
        if not fitting:
            raise UsageError(
                f"No size fits in {limit / 1e9:.2g} GB: {sizes[0]} would need {needs[sizes[0]] / 1e9:.2g}. Raise "
                "--max-memory, or lower tokens_per_batch (--set tokens_per_batch=2048)."
            )
        return fitting

    def _needs(self, size: str) -> float:
        """Bytes at the worst moment of a pretraining step, counted."""
        encoders = {key: copy.deepcopy(encoder) for key, encoder in self._base.network.encoders.items()}
        source = Source(list(self._base.columns.values()), encoders, self.store)
        run = DryRun(source, self._sized(size), self.context.seed)
        mode = Mode.before(self.recipe.train.precision, run.runtime.device)
        on_cpu = run.runtime.device.type == "cpu"
        return memory(run.step(mode, heap=on_cpu), run.process_bytes)["peak"]

    def _sized(self, size: str) -> Recipe:
        return self.recipe.model_copy(update={"size": size}) if size in SIZES else self.recipe

    # -- a trial -----------------------------------------------------------------------------------------------------
    def run(self, settings: TrialSettings, seconds: float, report: Report) -> Outcome:
        """See `search.Runner`."""
        started = time.monotonic()
        recipe = self._recipe(settings)
        fits = self._wide_readouts(seconds)
        model, before = self._begin(settings, recipe, seconds)
        if self.wide and fits:
            attach_wide(model, self.store, fits)
        if settings.method == "wide" and not fits:
            raise ResourceError("a wide read-out has too little to learn from")
        folder = self.context.out / f"trial-{time.time_ns()}"
        context = self.context.but(
            recipe=patient(recipe), out=folder, limit=_TRAINING * seconds, on_event=ignore,
            on_validation=lambda judgement: report(_loss(judgement)),
        )  # fmt: skip
        try:
            if settings.method == "wide":
                result = untrained(model, time.monotonic() - started)
            else:
                with apart(model, self.store, self.task, self.validation):
                    result = fine_tune(
                        model, self.store, self.labelled, self.task, context,
                        pretrained=before is not None, validation=self.validation,
                    )  # fmt: skip
                if before is not None:
                    merged_adapter(before, model, context.recipe)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        model.tasks = [self.task]
        stage = "wide" if settings.method == "wide" else "finetune"
        earlier = None if before is None else before.provenance
        model.provenance = provenance(model, self.data, context, result, stage, earlier)
        calibrate(model, self.task, self.validation, len(self.labelled))
        return Outcome(*self._score(model), result.step, model)

    def _score(self, model: Model) -> tuple[float, float]:
        """The mean loss of the validation rows, over all asked columns together, and its standard error."""
        started = time.monotonic()
        losses = [row_scores(model, self.validation, Task(self.task.given, [name])) for name in self.task.ask]
        self._reserve((time.monotonic() - started) / len(self.validation) * len(self.data.split.test))
        scores = [mean_and_error(each) for each in losses if len(each) > 1]
        return sum(mean for mean, _ in scores), sum(error**2 for _, error in scores) ** 0.5

    def _reserve(self, seconds: float) -> None:
        """For answering the test rows: the most that any model has taken."""
        more = max(0.0, seconds - self._answering)
        self._answering, self.reserved = self._answering + more, self.reserved + more

    def keep(self, outcome: Outcome, number: int) -> None:
        """See `search.Runner`."""
        out = self.output.path
        model: Model = outcome.model
        model.adapter = None
        model.provenance["trial"] = number
        model.save(out, overwrite=self.output.replaces or (out / atomic.MANIFEST).exists())

    @property
    def kept(self) -> int | None:
        """See `search.Runner`."""
        path = self.output.path / "provenance.json"
        return read_json(path).get("trial") if path.exists() else None

    def _recipe(self, settings: TrialSettings) -> Recipe:
        train, finetune = self.recipe.train, self.recipe.finetune
        train = train.model_copy(
            update={
                "lr": train.lr * settings.rate,
                "muon_lr": train.muon_lr * settings.rate,
                "weight_decay": settings.weight_decay,
                "tensorboard": False,
            }
        )
        freeze: dict[Method, dict[str, Any]] = {
            "frozen": {"freeze": "trunk"},
            "lora": {"lora": finetune.lora or LoRAConfig()},
        }
        finetune = finetune.model_copy(update=freeze.get(settings.method, {}))
        trunk = {**self.recipe.trunk, "dropout": settings.dropout}
        sized = self._sized(settings.size)
        return sized.model_copy(update={"train": train, "finetune": finetune, "trunk": trunk})

    def _wide_readouts(self, seconds: float) -> WideReadouts:
        """Fitted once."""
        if self._fits is None:
            rows_of = wide_rows_of(self.store, self.labelled, self.task) if self.wide else {}
            self._fits = fit_wide_readouts(rows_of, seconds, self.context) if rows_of else {}
        return self._fits

    def _begin(self, settings: TrialSettings, recipe: Recipe, seconds: float) -> tuple[Model, Model | None]:
        """The model to train, and the pretrained one that it is a copy of, if it is."""
        if settings.method not in STARTED:
            return self._new(recipe), None
        before = self.start or self._foundation(settings.size, _PRETRAINING * seconds)
        model = copy.deepcopy(before)
        trunk = model.network.trunk
        if isinstance(trunk, Transformer) and trunk.config.dropout != settings.dropout:
            model.network.trunk = restructured(trunk, {"dropout": settings.dropout})
            Runtime.of(before.network).place(model.network)
        return model, before

    def _new(self, recipe: Recipe) -> Model:
        """Whose encoders know what those of the first model do: they are fitted once."""
        return new_model(self.data, recipe, self.context.seed, self._base)

    def _foundation(self, size: str, seconds: float) -> Model:
        """Pretrained once for each size, by the first process that needs it."""
        folder = self.context.out / f"foundation-{size}"
        with FileLock(self.context.out / f"foundation-{size}.lock"):
            if not (folder / atomic.MANIFEST).exists():
                recipe, work = self._sized(size), self.context.out / f"pretraining-{size}"
                shutil.rmtree(work, ignore_errors=True)
                context = self.context.but(recipe=recipe, out=work, limit=seconds, on_event=ignore)
                pretrain_model(self.data, context, self._new(recipe)).save(folder)
                shutil.rmtree(work, ignore_errors=True)
            return load(folder, device=self.recipe.device)


def _loss(judgement: Judgement) -> float:
    """Of a validation, less is better; infinite where it is undefined."""
    if judgement.value is None:
        return float("inf")
    return -judgement.value if judgement.higher_is_better else judgement.value
