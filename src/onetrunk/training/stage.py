"""What every stage of training does: make or extend a model, encode rows, run the trainer, keep the provenance."""

from __future__ import annotations

import hashlib
import platform
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from onetrunk import __version__
from onetrunk.core import rng
from onetrunk.core.errors import InterruptedRunError
from onetrunk.core.terminal import literal
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.seen_rows import record
from onetrunk.data.store import Store
from onetrunk.engine.progress import Progress
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.trainer import TrainConfig, Trainer, TrainResult
from onetrunk.inference.model_folder import Model
from onetrunk.model import FoundationModel
from onetrunk.training import adapt
from onetrunk.training.batches import with_row_weights
from onetrunk.training.distil import student_columns
from onetrunk.training.open_data import Data
from onetrunk.training.output import Output
from onetrunk.training.recipe import FinetuneConfig, Recipe

_VALIDATIONS = 10  # in a run


def new_model(data: Data, config: Recipe, seed: int, teacher: Model | None = None) -> Model:
    """A new model on the recipe's device, whose codecs are fitted on the training rows, or know what its teacher's do.
    It begins with the same numbers on every device."""
    columns, codecs = (
        fit_columns(data.part("train"), data.names, data.types, data.options, data.cache)
        if teacher is None
        else student_columns(teacher, data)
    )
    torch.manual_seed(rng.torch_seed(seed, "weights"))
    network = FoundationModel(config.trunk_config(), columns, codecs, config.given)
    return Model(Runtime.open(config.device).place(network), fold=data.fold)


def extend_model(model: Model, data: Data, console: Console, seed: int, tuning: FinetuneConfig | None = None) -> None:
    """Lets a model meet a table: new columns get codecs, known ones new classes and words, if they can be learnt. What
    is new begins at random, as the seed says."""
    torch.manual_seed(rng.torch_seed(seed, "weights"))
    train, model.fold = data.part("train"), data.fold
    met = model.network.codecs.keys() - adapt.settled(model, data, tuning)
    new = [name for name in data.names if name not in model.columns]
    if new:
        known = list(model.columns.values())
        columns, codecs = fit_columns(train, new, data.types, data.options, data.cache)
        for column in columns:
            like = [other.name for other in known if other.type == column.type]
            model.network.add_column(column, codecs[column.codec], like)
            Runtime.of(model.network).place(model.network)
            console.print(f"New column [bold]{literal(column.name)}[/] [dim]{column.type}[/]", highlight=False)
    for name in data.names:
        if model.columns[name].codec in met:
            added = model.codec(name).extend([v for v in train[name] if v is not None])
            if added:
                console.print(f"Column [bold]{literal(name)}[/]: {added} new classes or words", highlight=False)


def stored(model: Model, data: Data, part: str, config: Recipe) -> Store:
    table = data.part(part)
    columns = [column for name, column in model.columns.items() if name in data.names]
    store = encode(table, columns, model.network.codecs, data.ledger, data.cache)
    return with_row_weights(store, table, config.row_weight)


def run(
    model: Model,
    batches: Any,
    config: Recipe,
    steps: int,
    out: Output,
    place: Path,
    seed: int,
    validate: Any,
    weights: dict[str, float],
    progress: Progress,
) -> TrainResult:
    """Trains in the folder `place`, which is `out` or inside it."""
    settings = {"steps": steps, "loss_weights": {**weights, **config.train.loss_weights}}
    if validate is not None and not config.train.validate_every:
        settings["validate_every"] = max(1, steps // _VALIDATIONS)
    if not config.train.save_every:
        settings["save_every"] = max(50, steps // 10)
    train = TrainConfig.parse({**config.train.model_dump(), **settings})
    identity: dict[str, Any] = {"rows": batches.store.digest(), "start": weights_digest(model.network)}
    if (teacher := model.network.teacher) is not None:
        identity["teacher"] = [weights_digest(teacher.model), teacher.weight, teacher.temperature]
    trainer = Trainer(
        model.network, batches, train, place, seed=seed, identity=identity, validate=validate, progress=progress
    )
    out.begin()
    result = trainer.run()
    if result.interrupted:
        raise InterruptedRunError(
            f"Stopped after step {result.step:,} of {steps:,}, saved in {place / 'checkpoints'}. "
            "The same command goes on from there.",
            result.interrupted,
        )
    return result


def provenance(
    data: Data,
    config: Recipe,
    seed: int,
    result: TrainResult,
    stage: str,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a model was made of, and how: kept beside it."""
    made = {
        "stage": stage,
        "source": Path(data.table.source).name,
        "rows": {name: len(index) for name, index in data.split.indices().items()},
        "split": data.split.as_json(),
        "seen_rows": record(data.table, data.types, data.given or data.ask, data.split.indices()),
        "given": data.given,
        "ask": data.ask,
        "left_out": data.reasons,
        "ledger": data.ledger.as_json(),
        "config": config.model_dump(),
        "seed": seed,
        "steps": result.step,
        "tokens": result.tokens,
        "computed_in": result.mode,
        "seconds": round(result.seconds, 1),
        "onetrunk": __version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "device": result.device,
        "date": time.strftime("%Y-%m-%d"),
    }
    return {"stages": [*(before or {}).get("stages", []), made]}


def weights_digest(network: FoundationModel) -> str:
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        found.update(name.encode() + tensor.cpu().numpy().tobytes())
    return found.hexdigest()


def count_parameters(model: Model) -> int:
    return sum(p.numel() for p in model.network.parameters())
