"""Private training of a table (`--private`): what may learn from its rows, what it costs, and what is refused.

What a private run leaves is made of gradients that were bounded and hidden in noise, and of nothing else that looks at
a row more closely than vocabularies and scales do (`evaluation.promise` says so in the card). So validation rows choose
and calibrate nothing, there is no wide read-out, and logs and checkpoints are removed when the model is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from onetrunk.core.errors import UsageError
from onetrunk.core.events import Listener, Note, ignore
from onetrunk.core.objective import Objective, ObjectiveConfig
from onetrunk.core.registry import objectives as objective_kinds
from onetrunk.data.loader import Loader
from onetrunk.data.poisson import PoissonLoader
from onetrunk.data.seen_rows import splits_before
from onetrunk.engine.accountant import Spent, noise_for
from onetrunk.engine.private import Privacy, PrivateConfig, PrivateStep
from onetrunk.engine.step import Step
from onetrunk.engine.world import current
from onetrunk.inference.model_folder import Model
from onetrunk.training.open_data import Data
from onetrunk.training.recipe import Recipe

PRIVATE = "private"  # of a stage in provenance
_SHARE, _DOCUMENTS = 10, (32, 2048)  # of the rows in a step of fine-tuning: large steps need less noise for each row

StepKind = Callable[..., Step]


def not_here(recipe: Recipe, verb: str) -> Recipe:
    """The recipe, of a verb that does not train privately. Raises UsageError where it asks for that."""
    if recipe.private is not None:
        raise UsageError(
            f"private: {verb} looks at rows in ways that its promise does not cover (simple models, validation rows, "
            "trials). Train with onetrunk pretrain --private or onetrunk finetune --private."
        )
    return recipe


def private_recipe(recipe: Recipe, on_event: Listener = ignore, teacher: str | None = None) -> Recipe:
    """The recipe as private training takes it. Raises UsageError for what it cannot keep its promise with."""
    if recipe.private is None:
        return recipe
    train, tuning = recipe.train, recipe.finetune
    refused = {
        "a teacher, whose answers may give its own rows away": teacher is not None,
        "row_weight, which a row's bound would undo": recipe.row_weight is not None,
        "a mixture, which draws some rows more often than others": bool(recipe.mixture),
        "finetune.label_propagation, by which a row's label becomes its neighbours'": tuning.label_propagation,
        "finetune.repeats above 1, of which validation rows choose one": tuning.repeats > 1,
        "train.validate_every and train.patience, for validation rows choose nothing": (
            train.validate_every > 0 or train.patience > 0
        ),
        "train.balance=learnt, which follows the losses of rows": train.balance == "learnt",
        "train.merge other than sum": train.merge != "sum",
        "train.precision=bf16": train.precision == "bf16",
        "train.compile": train.compile is True,
        "several processes (torchrun, train.shares, train.sharded)": (
            current().size > 1 or train.shares > 1 or train.sharded
        ),
    }
    for what, asked in refused.items():
        if asked:
            raise UsageError(f"Private training goes without {what}. Leave it out, or train without --private.")
    chosen = {"precision": "fp32", "compile": False}
    if "optimizer" not in train.model_fields_set:
        chosen["optimizer"] = "adamw"  # Muon would make noise as large as what it hides
    pretraining = recipe.pretrain.model_copy(update={"objectives": _by_row(recipe, on_event)})
    return recipe.model_copy(update={"train": train.updated(**chosen), "pretrain": pretraining})


def _by_row(recipe: Recipe, on_event: Listener) -> list[ObjectiveConfig]:
    """The objectives whose loss of a row is a function of that row."""
    settings = recipe.pretrain
    kinds: dict[str, type[Objective]] = {each.kind: objective_kinds.get(each.kind) for each in settings.objectives}
    coupled = [name for name, kind in kinds.items() if kind.compares_rows]
    if coupled and "objectives" in settings.model_fields_set:
        raise UsageError(
            f"Private training goes without the objective {coupled[0]}, which compares rows with one another: what one "
            "row does could not be bounded. Leave it out of pretrain.objectives."
        )
    if coupled:
        on_event(Note(f"Private training leaves out the objective {coupled[0]}, which compares rows."))
    return [each for each in settings.objectives if each.kind not in coupled]


def documents_of(recipe: Recipe, rows: int) -> int:
    """How many rows a step of fine-tuning has in the mean, where the recipe does not say."""
    return recipe.finetune.documents or int(np.clip(rows // _SHARE, *_DOCUMENTS))


def spent_before(provenance: Mapping[str, Any]) -> tuple[Spent, ...]:
    """What earlier private stages of a model have cost. Their rows may be the same, so all costs add up."""
    stages = provenance.get("stages", [])
    private = [stage[PRIVATE] for stage in stages if PRIVATE in stage]
    return tuple(Spent(*each) for each in private[-1]["spent"]) if private else ()


def refuse_rows_learnt_before(model: Model | None, data: Data) -> None:
    """Raises UsageError where a stage without privacy has learnt from rows that are to be private."""
    stages = [] if model is None else model.provenance.get("stages", [])
    records = [stage["seen_rows"] for stage in stages if PRIVATE not in stage and "seen_rows" in stage]
    if model is None or not records:
        return
    seen = int((splits_before(model.as_learnt(data.rows("train")), records) >= 0).sum())
    if seen:
        raise UsageError(
            f"The model to start from has learnt from {seen:,} of these training rows without privacy, so nothing can "
            "be promised to them. Start anew, from a model of other rows, or from one that --private has pretrained."
        )


def privacy_of(batches: Loader, private: PrivateConfig, steps: int, before: Sequence[Spent] = ()) -> Privacy:
    """How a run is private: with the least noise that the promise allows."""
    noise = noise_for(private.eps, private.delta, _poisson(batches).rate, steps, before)
    return _privacy(batches, private, noise, steps, before)


def step_kind(batches: Loader, privacy: Privacy | None) -> StepKind:
    """What makes the steps of a run."""
    if privacy is None:
        return Step
    return partial(PrivateStep, privacy=privacy, secret=_poisson(batches).secret)


def timed_step_kind(batches: Loader, private: PrivateConfig | None) -> StepKind:
    """The same with some noise: to see how long steps take, of which nothing is kept."""
    return step_kind(batches, None if private is None else _privacy(batches, private, 1.0, 1, ()))


def _privacy(batches: Loader, private: PrivateConfig, noise: float, steps: int, before: Sequence[Spent]) -> Privacy:
    drawn = _poisson(batches)
    rows = drawn.rate * len(drawn.pool)
    return Privacy(private.delta, private.clip, noise, drawn.rate, rows, steps, tuple(before))


def _poisson(batches: Loader) -> PoissonLoader:
    assert isinstance(batches, PoissonLoader), "private training draws its rows by Poisson sampling"
    return batches
