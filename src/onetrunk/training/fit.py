"""Learning a task from a table, and nothing else: no folder is left and nothing is judged. Whoever asks for it holds
out rows of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from onetrunk.core.events import Listener, ignore
from onetrunk.inference.model_folder import Model
from onetrunk.training.context import RunContext
from onetrunk.training.open_data import open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.private import not_here
from onetrunk.training.recipe import budget_seconds, recipe_of
from onetrunk.training.start import start_from
from onetrunk.training.time_budget import TimeBudget
from onetrunk.training.train import best_model, default_seconds


def fit_model(data: Any, options: TrainingOptions, on_event: Listener = ignore) -> Model:
    """A model of the task in `options`, learnt as `train` does, but never pretrained. `options.out` is not used. The
    split may hold no test rows."""
    recipe = not_here(recipe_of(options), "fit")
    model, recipe = start_from(options.start, recipe, options.allow_network, options.seed)
    opened = open_data(data, options, recipe, on_event, start=model)
    limit = budget_seconds(options.budget)
    clock = TimeBudget(limit or default_seconds(opened))
    with tempfile.TemporaryDirectory(prefix="onetrunk-") as out:
        context = RunContext(recipe, Path(out), options.seed, options.max_bad, limit, on_event)
        return best_model(opened, context, clock, model).model
