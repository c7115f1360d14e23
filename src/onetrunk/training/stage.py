"""What every stage of training does: make or extend a model, encode rows, run the trainer, keep the provenance."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onetrunk import __version__
from onetrunk.core import rng
from onetrunk.core.errors import InterruptedRunError
from onetrunk.core.events import ColumnAdded, ColumnExtended, Listener, StageFinished, StageStarted, ignore
from onetrunk.core.module import ColumnModule
from onetrunk.core.objective import BatchEncoder
from onetrunk.core.values import of_present
from onetrunk.data.ledger import Ledger
from onetrunk.data.loader import DRAWING, Loader
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.seen_rows import SeenRows, record
from onetrunk.data.store import Store
from onetrunk.engine.accountant import Spent
from onetrunk.engine.cost import Meter
from onetrunk.engine.progress import Progress
from onetrunk.engine.runtime import Runtime, find_device
from onetrunk.engine.trainer import TrainConfig, Trainer, TrainResult, Validate
from onetrunk.inference.model_folder import Model
from onetrunk.model import FoundationModel
from onetrunk.model.flops import StepOperations
from onetrunk.objectives import Learner
from onetrunk.objectives.distil import Distil
from onetrunk.training import adapt
from onetrunk.training.batches import updates_of, with_row_weights
from onetrunk.training.calibrate import forget_calibration
from onetrunk.training.context import RUNS, RunContext
from onetrunk.training.distil import student_columns
from onetrunk.training.open_data import Data
from onetrunk.training.private import privacy_of, step_kind
from onetrunk.training.recipe import FinetuneConfig, Recipe

_VALIDATIONS = 10  # in a run
_LATE = 1.05  # of the seconds that a run may take: then it ends, whatever steps were planned
_READ_OUT_SIZE = 0.02  # standard deviation


def new_model(data: Data, recipe: Recipe, seed: int, teacher: Model | None = None) -> Model:
    """A new model on the recipe's device, whose encoders are fitted on the training rows, or know what its teacher's
    do. It begins with the same numbers on every device."""
    columns, encoders = (
        fit_columns(data.rows("train"), data.names, data.types, data.options, data.cache)
        if teacher is None
        else student_columns(teacher, data)
    )
    torch.manual_seed(rng.torch_seed(seed, "weights"))
    network = FoundationModel(recipe.trunk_config(), columns, encoders, recipe.attention)
    return Model(Runtime.open(recipe.device).place(network), events=data.events, missing=data.missing)


def extend_model(
    model: Model, data: Data, seed: int, tuning: FinetuneConfig | None = None, on_event: Listener = ignore
) -> None:
    """Lets a model meet a table: new columns get encoders, known ones new classes and words, if they can be learnt.
    What is new begins at random, as the seed says."""
    torch.manual_seed(rng.torch_seed(seed, "weights"))
    imported = [stage["stage"] for stage in model.provenance.get("stages", [])] == ["import"]
    train, model.events, model.missing = data.rows("train"), data.events, data.missing
    extended = model.network.encoders.keys() - adapt.frozen_keys(model, data, tuning)
    new = [name for name in data.names if name not in model.columns]
    if new:
        known = list(model.columns.values())
        columns, encoders = fit_columns(train, new, data.types, data.options, data.cache)
        for column in columns:
            like = [other.name for other in known if other.type == column.type]
            model.network.add_column(column, encoders[column.key], like)
            if imported:
                _begin_read_out(model.network.module(column.name))
            Runtime.of(model.network).place(model.network)
            on_event(ColumnAdded(column.name, column.type))
    for name in data.names:
        if model.columns[name].key in extended:
            added = model.network.extend_column(name, of_present(train[name]))
            if added:
                on_event(ColumnExtended(name, added))


@torch.no_grad()
def _begin_read_out(module: ColumnModule[Any]) -> None:
    """On a checkpoint a read-out begins as small numbers, as in transformers, where those trained here begin as none:
    the trunk learns from the first step. From zeros, a ViT of random weights had learnt half as much in 200 steps."""
    for name, parameter in module.named_parameters():
        if name.partition(".")[0] in module.read_out and parameter.ndim > 1 and not bool(parameter.any()):
            parameter.normal_(0, _READ_OUT_SIZE)


def encode_rows(model: Model, data: Data, split: str, recipe: Recipe) -> Store:
    """The rows of one split, encoded by the model's encoders, with their weights and their places in a mixture."""
    table = data.rows(split)
    columns = [column for name, column in model.columns.items() if name in data.names]
    data.of_encoding = Ledger()
    store = encode(table, columns, model.network.encoders, data.of_encoding, data.cache)
    store.mixture = None if data.mixture is None else data.mixture.take(data.split.indices()[split])
    return with_row_weights(store, table, recipe.row_weight)


def run_stage(
    stage: str,
    learner: Learner,
    batches: Loader,
    steps: int,
    context: RunContext,
    validate: Validate | None = None,
    weights: dict[str, float] | None = None,
    rates: Mapping[nn.Module, float] | None = None,
    spent: Sequence[Spent] = (),
) -> TrainResult:
    """Trains the learner's model on the batches. `weights` are of losses, by objective, `rates` shares of
    the learning rate, by part; `spent` is what earlier private stages of the model have cost. Raises
    InterruptedRunError where a signal stopped it; the same call goes on from there."""
    recipe, network = context.recipe, learner.model
    forget_calibration(learner)
    settings: dict[str, Any] = {
        "steps": steps,
        "loss_weights": {**(weights or {}), **recipe.train.loss_weights},
    }
    if validate is not None and not recipe.train.validate_every:
        settings["validate_every"] = max(1, steps // _VALIDATIONS)
    if not recipe.train.save_every:
        settings["save_every"] = max(50, steps // 10)
    train = TrainConfig.parse({**recipe.train.model_dump(), **settings})
    start = weights_digest(network)
    identity: dict[str, Any] = {"rows": batches.store.digest(), "drawing of rows": DRAWING, "start": start}
    for objective in learner.objectives:
        if isinstance(objective, Distil):
            options = objective.options
            identity["teacher"] = [weights_digest(objective.teacher), options.weight, options.temperature]
    privacy = None if recipe.private is None else privacy_of(batches, recipe.private, steps, spent)
    if privacy is not None:
        identity["private"] = privacy.as_json()
    parameters = sum(p.numel() for p in network.parameters())
    documents = {o.tag: o.config.documents for o in learner.objectives}
    context.on_event(StageStarted(stage, len(batches.store.index), steps, parameters, documents))
    meter = Meter(recipe.cost, str(find_device(recipe.device)))
    trainer = Trainer(
        learner, batches, train, context.out,
        seed=context.seed, identity=identity, validate=validate, progress=Progress(stage, context.on_event, meter),
        flops=StepOperations(network) if privacy is None else None, updates=updates_of(learner, rates),
        step_kind=step_kind(batches, privacy), limit=None if context.limit is None else _LATE * context.limit,
        resume=True if context.output is None else context.output.trainer_resumes,
    )  # fmt: skip
    if context.max_memory is not None:
        from onetrunk.engine.room import check  # takes half a second to import

        check(learner, batches(0), train, updates_of(learner, rates), context.max_memory)
    if context.output is not None:
        context.output.begin()
    result = trainer.run()
    if result.interrupted:
        raise InterruptedRunError(
            f"Stopped after step {result.step:,} of {steps:,}, saved in {context.out / 'checkpoints'}. "
            "The same command goes on from there.",
            result.interrupted,
        )
    context.on_event(StageFinished(stage, result.step, result.seconds, result.best_metric, result.best_step))
    return result


def provenance(
    model: Model, data: Data, context: RunContext, result: TrainResult, stage: str, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a model was made of, and how: kept beside it."""
    made = {
        "stage": stage,
        "source": Path(data.table.source).name,
        "rows": {name: len(index) for name, index in data.split.indices().items()},
        "split": data.split.as_json(),
        "seen_rows": _seen_rows(model, data, context),
        "given": data.given,
        "ask": data.ask,
        "left_out": data.reasons,
        "ledger": data.lost.as_json(),
        "config": context.recipe.model_dump(),
        "seed": context.seed,
        "steps": result.step,
        "tokens": result.tokens,
        "computed_in": result.mode,
        "seconds": round(result.seconds, 1),
        "onetrunk": __version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, threads: {torch.get_num_threads()}",
        "device": result.device,
        "date": time.strftime("%Y-%m-%d"),
        **result.facts,
    }
    runs = {RUNS: before[RUNS]} if before and RUNS in before else {}
    return {"stages": [*(before or {}).get("stages", []), made], **runs}


def _seen_rows(model: Model, data: Data, context: RunContext) -> SeenRows:
    """Which rows were met. A private model tells nobody which rows it has learnt from: only which were held out."""
    splits = data.split.indices()
    private = context.recipe.private is not None
    if private:
        splits = {**splits, "train": splits["train"][:0]}
    kept = record(model.as_learnt(data.table), data.types, data.given or data.ask, splits)
    return kept.without_training_rows() if private else kept


def untrained(model: Model, seconds: float) -> TrainResult:
    """The result of a run without steps, for provenance."""
    device = str(next(model.network.parameters()).device)
    return TrainResult(0, None, None, [], 0, seconds, 0, "no steps", device)


def weights_digest(network: BatchEncoder) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
