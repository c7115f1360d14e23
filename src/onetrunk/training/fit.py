"""Learning a task from a table, and nothing else: no folder is left and nothing is judged. Whoever asks for it holds
out rows of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from onetrunk.core.events import Listener, ignore
from onetrunk.inference.model_folder import Model
from onetrunk.training.beside_wide import begins_wide, train_beside_wide
from onetrunk.training.context import RunContext
from onetrunk.training.finetune import finetune_model
from onetrunk.training.open_data import open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.private import not_here
from onetrunk.training.recipe import budget_seconds, recipe_of
from onetrunk.training.stage import extend_model, new_model
from onetrunk.training.start import start_from
from onetrunk.training.time_budget import TimeBudget
from onetrunk.training.train import counts_steps, default_seconds


def fit_model(data: Any, options: TrainingOptions, on_event: Listener = ignore) -> Model:
    """A model of the task in `options`, learnt as `train` does, or as `finetune` does where there is a model to start
    from. `options.out` is not used. The split may hold no test rows."""
    recipe = not_here(recipe_of(options), "fit")
    model, recipe = start_from(options.start, recipe, options.allow_network, options.seed)
    opened = open_data(data, options, recipe, on_event, start=model)
    limit = budget_seconds(options.budget)
    clock = TimeBudget(limit or default_seconds(opened))
    with tempfile.TemporaryDirectory(prefix="onetrunk-") as out:
        context = RunContext(recipe, Path(out), options.seed, options.max_bad, limit, on_event)
        if model is None and begins_wide(opened, recipe):
            tuned = train_beside_wide(opened, context, clock)
            if tuned is not None:
                return tuned.model
        context = context.but(limit=limit if counts_steps(recipe) else clock.left)
        if model is None:
            start = new_model(opened, recipe, options.seed)
        else:
            start = model
            extend_model(start, opened, options.seed, recipe.finetune, on_event)
        return finetune_model(opened, context, start, pretrained=model is not None).model
