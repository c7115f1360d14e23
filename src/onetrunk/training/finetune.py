"""Fine-tuning on one task: which columns are given, which is asked."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from onetrunk.core import folder as files
from onetrunk.core import rng
from onetrunk.core.errors import DataError, ModelFileError, UsageError
from onetrunk.core.objective import ObjectiveConfig
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.engine.checkpoint import SCORES
from onetrunk.engine.progress import Progress
from onetrunk.engine.trainer import TrainResult
from onetrunk.inference.adapter import Adapter, base_digest
from onetrunk.inference.model_folder import Model, Task
from onetrunk.nn import lora
from onetrunk.training import adapt
from onetrunk.training.batches import count_steps, loader, steps_within, with_row_weights
from onetrunk.training.label_propagation import spread
from onetrunk.training.open_data import Data
from onetrunk.training.output import Output, as_output
from onetrunk.training.recipe import Recipe
from onetrunk.training.select import judged_by_metric, validator
from onetrunk.training.stage import provenance, run, stored, weights_digest

_MOST_VALIDATED = 2000  # rows looked at to choose the best step
_FEWEST_VALIDATED = 20  # fewer labelled validation rows say nothing: cross-validation on the training labels instead


def finetune_model(
    data: Data,
    config: Recipe,
    out: Path | Output,
    seed: int,
    model: Model,
    pretrained: bool,
    max_bad: float,
    console: Console,
    limit: float | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Trains one task, in place. Returns the model, as it was where training does not help, and what was decided and
    why."""
    task, output = Task(list(data.given), list(data.ask)), as_output(out)
    store = stored(model, data, "train", config)
    data.ledger.check(len(store.index), max_bad)
    asked = [store.names.index(name) for name in task.ask]
    labelled = np.flatnonzero(store.present[:, asked].any(1))
    if not len(labelled):
        raise DataError(f"No training row has a value in {', '.join(task.ask)}: nothing to fine-tune on.")
    validation = data.part("val")
    known = np.array([any(validation[name][i] is not None for name in task.ask) for i in range(len(validation))], bool)
    validation = validation.take(np.flatnonzero(known)[:_MOST_VALIDATED])
    console.print(f"[bold]Fine-tuning[/] on {len(labelled):,} rows", highlight=False)
    decision: dict[str, Any] = {"labelled_rows": len(labelled)}
    progress = Progress("fine-tuning", silent=console.quiet)
    spreads = pretrained and config.finetune.spread and len(labelled) < len(store.index)
    validates = pretrained and not spreads and len(validation) < _FEWEST_VALIDATED
    share = None if limit is None else limit / (config.finetune.repeats + validates * config.finetune.folds)
    if spreads:
        store, labelled = _with_neighbours(model, data, store, task, config)
        console.print(f"Labels of neighbours: learning from {len(labelled):,} rows", highlight=False)
        decision |= {"rows_with_neighbours_labels": len(labelled), "kept": "fine-tuned on neighbours' labels"}
    elif validates:
        gain = _cross_validated(model, store, labelled, task, config, output, seed, data.part("train"), share)
        decision |= {
            "cross_validation": gain,
            "kept": "fine-tuned" if gain["fine-tuned"] > gain["pretrained"] else "pretrained",
        }
        console.print(
            f"Cross-validated on the {len(labelled)} labelled rows: as pretrained {gain['pretrained']:.3f}, "
            f"fine-tuned {gain['fine-tuned']:.3f}: keeping the {decision['kept']}.",
            highlight=False,
        )
        if decision["kept"] == "pretrained":
            model.tasks = [task]
            return model, decision
    tried = []
    for repeat in range(config.finetune.repeats):
        candidate = model if repeat == config.finetune.repeats - 1 else copy.deepcopy(model)
        place = output.path
        if config.finetune.repeats > 1:
            place = place / "checkpoints" / f"seed-{seed + repeat}"
        result = _tune(
            candidate,
            store,
            labelled,
            task,
            config,
            output,
            place,
            seed + repeat,
            pretrained,
            validation,
            progress,
            share,
        )
        tried.append((result.best_metric, candidate, result))
    judged = model.codec(task.ask[0])
    better = judged.higher_is_better if judged_by_metric(judged) else False
    best = max(range(len(tried)), key=lambda i: (tried[i][0] or 0.0) * (1 if better else -1))
    score, chosen, result = tried[best]
    decision |= {"validation": score, "seeds": [s for s, _, _ in tried]}
    chosen.adapter = None
    if config.finetune.lora is not None:
        whole = files.load_tensors(model.folder / "model.safetensors") if config.finetune.lora.bits == 4 else None
        learnt = lora.take(chosen.network.trunk, whole)
        chosen.adapter = Adapter(config.finetune.lora, learnt, model.folder, base_digest(model.folder))
    chosen.tasks = [task]
    chosen.provenance = provenance(data, config, seed, result, "finetune", model.provenance)
    return chosen, decision


def _tune(
    model: Model,
    store: Store,
    labelled: np.ndarray,
    task: Task,
    config: Recipe,
    out: Output,
    place: Path,
    seed: int,
    pretrained: bool,
    validation: Table | None,
    progress: Progress,
    limit: float | None = None,
) -> TrainResult:
    f = config.finetune
    documents = f.documents or int(np.clip(len(labelled) // 16, 16, 256))
    objective = ObjectiveConfig(kind="predict", documents=documents, given=task.given, ask=task.ask)
    rows = Store(store.names, store.codecs, store.contents, store.index[labelled])
    rows.row_weight = None if store.row_weight is None else store.row_weight[labelled]
    batches, model.network.objectives = loader(rows, [objective], config, seed)
    steps = f.steps or count_steps(batches.rows_per_epoch("predict"), documents, f.epochs, f.least_steps, f.most_steps)
    if f.lora is not None and f.freeze not in (0, "trunk"):
        raise UsageError(
            f"finetune.lora freezes the whole trunk and --freeze {f.freeze} a part of it: name one of them."
        )
    adapt.freeze(model, task, f.freeze if f.lora is None else "trunk")
    if f.lora is not None:
        adapt.add_lora(model, task, f.lora, seed)
        if "optimizer" not in config.train.model_fields_set:
            config = config.model_copy(update={"train": config.train.updated(optimizer="adamw")})
    adapt.layer_rates(model, task, f.layer_rate)
    steps = steps_within(model.network, batches, config.train, steps, limit, place, out.resumes)
    if pretrained:
        train = config.train.updated(lr=config.train.lr * f.rate, muon_lr=config.train.muon_lr * f.rate)
        config = config.model_copy(update={"train": train})
    validate = validator(model, task, validation, f.metric) if validation is not None and len(validation) else None
    result = run(model, batches, config, steps, out, place, seed, validate, {}, progress)
    for parameter in model.network.parameters():
        parameter.requires_grad_(True)
    return result


def _with_neighbours(model: Model, data: Data, store: Store, task: Task, config: Recipe) -> tuple[Store, np.ndarray]:
    """The training rows with the asked column filled, and weighed by how sure that is."""
    table = data.part("train")
    values, sure = spread(model, store, task, table[task.ask[0]])
    filled = Table({**table.columns, task.ask[0]: values}, table.source, table.row)
    columns = [model.columns[name] for name in store.names]
    out = with_row_weights(encode(filled, columns, model.network.codecs, Ledger()), table, config.row_weight)
    out.row_weight = sure if out.row_weight is None else sure * out.row_weight
    return out, np.arange(len(table))


def _cross_validated(
    model: Model,
    store: Store,
    labelled: np.ndarray,
    task: Task,
    config: Recipe,
    out: Output,
    seed: int,
    train: Table,
    limit: float | None,
) -> dict[str, float]:
    """How good the asked column is on held-out labels (its main metric, or its loss where answers take steps: higher is
    better), as the model is and after fine-tuning on the others.

    The model as it is may have met the held-out labels in pretraining, and then knows them by heart: the comparison
    favours it. `limit` bounds each fine-tuning, in seconds. A run that is stopped goes on with the fold it was at.
    """
    name = task.ask[0]
    folds = min(config.finetune.folds, len(labelled))
    fold_of = np.empty(len(labelled), dtype=np.int64)
    fold_of[rng.permutation(rng.key(seed, "folds"), len(labelled))] = np.arange(len(labelled)) % folds
    quick = config.model_copy(update={"train": config.train.updated(tensorboard=False)})
    place = out.path / "checkpoints"
    known = {
        "rows": store.digest(), "start": weights_digest(model.network), "given": task.given, "ask": task.ask,
        "config": config.model_dump(mode="json"), "seed": seed,
    }  # fmt: skip
    scores = _scores_so_far(place / SCORES, known) if out.resumes else {}
    for fold in range(folds):
        if str(fold) in scores:
            continue
        held = labelled[fold_of == fold]
        held = held[store.index[held, store.names.index(name)] >= 0]
        if not len(held):
            continue
        tuned = copy.deepcopy(model)
        rest, silent, inside = labelled[fold_of != fold], Progress(silent=True), place / f"fold-{fold}"
        _tune(tuned, store, rest, task, quick, out, inside, seed, True, None, silent, limit)
        scores[str(fold)] = {}
        for label, candidate in (("pretrained", model), ("fine-tuned", tuned)):
            value, higher_is_better, _ = validator(candidate, task, train.take(held), None)()
            scores[str(fold)][label] = value if higher_is_better else -value
        if all(math.isfinite(value) for value in scores[str(fold)].values()):
            with files.disk_errors(place):
                files.write_json_whole(place / SCORES, {"of": known, "folds": scores})
            shutil.rmtree(inside)
    return {label: float(np.mean([s[label] for s in scores.values()])) for label in ("pretrained", "fine-tuned")}


def _scores_so_far(path: Path, of: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of the folds that a stopped run had done; none where they are another run's."""
    try:
        found = files.read_json(path)
    except ModelFileError:
        return {}
    return found["folds"] if found.get("of") == of else {}
