"""Makes the batches of a run from opened rows: row weights, objectives, the loader, the number of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from onetrunk.core.errors import DivergedError, UsageError
from onetrunk.core.objective import BatchEncoder, Objective, ObjectiveConfig
from onetrunk.core.registry import objectives as objective_kinds
from onetrunk.core.secret import Secret
from onetrunk.data.loader import Loader
from onetrunk.data.poisson import PoissonLoader
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.engine.checkpoint import planned_steps
from onetrunk.engine.step import Step, Updates
from onetrunk.engine.trainer import LEAST_STEPS, TrainConfig, Trainer, TrainSettings
from onetrunk.engine.world import current
from onetrunk.objectives import Learner
from onetrunk.objectives.distil import Distil
from onetrunk.training.recipe import Recipe

_DRY_RUN = 0.01  # of a budget: to time steps for
_BESIDE = 0.1  # of a budget: validations, checkpoints, and steps that take longer than the first ones


def with_row_weights(store: Store, table: Table, column: str | None) -> Store:
    """Gives the store its rows' weights. Raises UsageError where one is missing or negative."""
    if column is not None:
        values = table[column]
        try:
            weights = np.fromiter((float(v) for v in values), dtype=np.float32, count=len(values))
        except (TypeError, ValueError):
            weights = np.full(len(values), np.nan, dtype=np.float32)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise UsageError(f"The column {column!r} must hold a weight of 0 or more in every row.")
        store.row_weight = weights
    return store


def make_objectives(configs: Sequence[ObjectiveConfig], store: Store) -> list[Objective]:
    """Objectives from their configurations; two of one kind are told apart by number."""
    made: list[Objective] = []
    for config in configs:
        same = sum(o.config.kind == config.kind for o in made)
        tag = config.kind if not same else f"{config.kind}{same + 1}"
        made.append(objective_kinds.get(config.kind)(tag, config, store.names, store.encoders))
    return made


def count_steps(rows: int, documents: int, epochs: float, min_steps: int, max_steps: int) -> int:
    """Steps for some passes over the rows, within bounds."""
    return int(np.clip(math.ceil(rows * epochs / max(1, documents)), min_steps, max_steps))


def updates_of(learner: Learner, rates: Mapping[nn.Module, float] | None = None) -> Updates:
    """How what a learner trains is updated: the trunk's blocks and convolutions by Muon where that is the optimizer,
    what objectives train apart by updates of their own. `rates`: what learns at a share of the learning rate."""
    return Updates(learner.model.blocks, rates or {}, learner.groups(), learner.model.convolutions)


def steps_within(
    learner: Learner,
    batches: Callable[[int], list],
    train: TrainSettings,
    steps: int,
    limit: float | None,
    out: Path,
    rates: Mapping[nn.Module, float] | None = None,
    resume: bool = True,
    step_kind: Callable[..., Step] = Step,
) -> int:
    """How many of the steps fit in `limit` seconds, of which a dry run of a few takes some; decided before step 0, and
    for a run in `out` that goes on (unless it does not `resume`) as it was decided then. The learner is not changed."""
    if limit is None:
        return steps
    if resume and (planned := planned_steps(out)) is not None:
        return planned
    config, began = TrainConfig.parse({**train.model_dump(), "steps": steps}), time.monotonic()
    try:
        trainer = Trainer(learner, batches, config, out, updates=updates_of(learner, rates), step_kind=step_kind)
        took = trainer.dry_run(_DRY_RUN * limit)
    except DivergedError:  # the run, whose steps are the same, says so itself
        return steps
    left = (limit - (time.monotonic() - began)) * (1 - _BESIDE)
    return int(np.clip(left / float(np.mean(took)), min(LEAST_STEPS, steps), steps))


def loader(
    store: Store, configs: Sequence[ObjectiveConfig], recipe: Recipe, seed: int, teacher: BatchEncoder | None = None
) -> tuple[Loader, list[Objective]]:
    """The batches of a run and its objectives, of which distillation learns from the teacher."""
    made = make_objectives(configs, store)
    for objective in made:
        if isinstance(objective, Distil) and teacher is not None:
            objective.learn_from(teacher)
    if recipe.private is None:
        kind: Callable[..., Loader] = partial(Loader, shares=recipe.train.shares or current().size)
    else:
        kind = partial(PoissonLoader, secret=Secret())
    causal = recipe.attention == "causal"
    return kind(store, made, seed=seed, tokens_per_batch=recipe.tokens_per_batch, given_causal=causal), made
