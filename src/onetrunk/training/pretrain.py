"""Pretraining: self-supervised training over every column."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from onetrunk.core.errors import DataError
from onetrunk.core.objective import Objective, ObjectiveConfig
from onetrunk.core.registry import objectives as kinds
from onetrunk.core.terminal import literal
from onetrunk.data.loader import Loader
from onetrunk.data.store import Store
from onetrunk.engine.progress import Progress
from onetrunk.inference.model_folder import Model, Task
from onetrunk.training.batches import count_steps, loader, steps_within
from onetrunk.training.open_data import Data
from onetrunk.training.output import Output, as_output
from onetrunk.training.recipe import Recipe
from onetrunk.training.stage import count_parameters, extend_model, new_model, provenance, run, stored


def pretrain_model(
    data: Data,
    config: Recipe,
    out: Path | Output,
    seed: int,
    model: Model | None,
    limit: float | None,
    max_bad: float,
    console: Console,
) -> Model:
    """Self-supervised training on the training rows, labelled or not."""
    output = as_output(out)
    if model is None:
        model = new_model(data, config, seed)
    else:
        extend_model(model, data, console, seed)
    store = stored(model, data, "train", config)
    data.ledger.check(len(store.index), max_bad)
    for line in data.ledger.lines():
        console.print(f"[yellow]Ledger[/] {literal(line)}", highlight=False)
    batches, made, steps = course(store, config, seed)
    model.network.objectives = made
    steps = steps_within(model.network, batches, config.train, steps, limit, output.path, output.resumes)
    console.print(
        f"[bold]Pretraining[/] {steps:,} steps, {count_parameters(model):,} parameters, "
        + " + ".join(f"{o.config.kind} {o.config.documents}" for o in made),
        highlight=False,
    )
    weights = {o.tag: o.config.weight for o in made}
    progress = Progress("pretraining", silent=console.quiet)
    result = run(model, batches, config, steps, output, output.path, seed, None, weights, progress)
    task = Task(list(data.given), list(data.ask))
    model.tasks = [task] if task.ask else []
    model.provenance = provenance(data, config, seed, result, "pretrain", model.provenance)
    return model


def course(store: Store, config: Recipe, seed: int) -> tuple[Loader, list[Objective], int]:
    """Pretraining on a store: its batches, its objectives, and for how many steps."""
    batches, made = loader(store, _useful(config.pretrain.objectives, store), config, seed)
    rows = max(batches.rows_per_epoch(o.tag) for o in made)
    documents = max(o.config.documents for o in made)
    p = config.pretrain
    return batches, made, p.steps or count_steps(rows, documents, p.epochs, p.least_steps, p.most_steps)


def _useful(objectives: list[ObjectiveConfig], store: Store) -> list[ObjectiveConfig]:
    """Leaves out objectives that this table gives nothing to (two views of a plain number)."""
    present, windows = store.present, store.windows()
    kept = [
        config
        for config in objectives
        if len(kinds.get(config.kind)(config.kind, config, store.names, store.codecs).pool(present, windows))
    ]
    if not kept:
        raise DataError("There is nothing to learn from: every training row is empty in the chosen columns.")
    return kept
