"""The two stages of training, on opened data: pretraining on every column, fine-tuning on one task."""

from __future__ import annotations

import copy
import hashlib
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from onetrunk import __version__
from onetrunk.core import folder as files
from onetrunk.core import rng
from onetrunk.core.column import Codec
from onetrunk.core.errors import DataError, InterruptedRunError, UsageError
from onetrunk.core.objective import Objective, ObjectiveConfig
from onetrunk.data.loader import Loader
from onetrunk.data.met import record
from onetrunk.data.pack import Store
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.table import Table
from onetrunk.engine.progress import Progress
from onetrunk.engine.trainer import TrainConfig, Trainer, TrainResult
from onetrunk.evidence.baselines import before_and_then, usable
from onetrunk.inference.adapter import Adapter, base_digest
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.predict import answer
from onetrunk.model import FoundationModel
from onetrunk.model.flops import StepOperations
from onetrunk.nn import lora
from onetrunk.objectives import Learner
from onetrunk.objectives.distil import Distil
from onetrunk.verbs import _teacher as teachers
from onetrunk.verbs import _trainable as trainable
from onetrunk.verbs._setup import Data, FinetuneConfig, RunConfig, count_steps, loader, steps_within, with_row_weights
from onetrunk.verbs._spread import spread

_MOST_VALIDATED = 2000  # rows looked at to choose the best step
_VALIDATIONS = 10  # in a run
_FEWEST_VALIDATED = 20  # fewer labelled validation rows say nothing: cross-validation on the training labels instead


def build(data: Data, config: RunConfig, seed: int, teacher: Model | None = None) -> Model:
    """A new model whose codecs are fitted on the training rows, or know what its teacher's do."""
    columns, codecs = (
        fit_columns(data.part("train"), data.names, data.types, data.options, data.cache)
        if teacher is None
        else teachers.codecs(teacher, data)
    )
    torch.manual_seed(rng.torch_seed(seed, "weights"))
    return Model(FoundationModel(config.trunk_config(), columns, codecs, config.given), fold=data.fold)


def adopt(model: Model, data: Data, console: Console, seed: int, tuning: FinetuneConfig | None = None) -> None:
    """Lets a model meet a table: new columns get codecs, known ones new classes and words, if they can be learnt. What
    is new begins at random, as the seed says."""
    torch.manual_seed(rng.torch_seed(seed, "weights"))
    train, model.fold = data.part("train"), data.fold
    met = model.network.codecs.keys() - trainable.settled(model, data, tuning)
    new = [name for name in data.names if name not in model.columns]
    if new:
        known = list(model.columns.values())
        columns, codecs = fit_columns(train, new, data.types, data.options, data.cache)
        for column in columns:
            like = [other.name for other in known if other.type == column.type]
            model.network.add_column(column, codecs[column.codec], like)
            console.print(f"New column [bold]{column.name}[/] [dim]{column.type}[/]", highlight=False)
    for name in data.names:
        if model.columns[name].codec in met:
            added = model.codec(name).extend([v for v in train[name] if v is not None])
            if added:
                console.print(f"Column [bold]{name}[/]: {added} new classes or words", highlight=False)


def stored(model: Model, data: Data, part: str, config: RunConfig) -> Store:
    table = data.part(part)
    columns = [column for name, column in model.columns.items() if name in data.names]
    store = encode(table, columns, model.network.codecs, data.ledger, data.cache)
    return with_row_weights(store, table, config.row_weight)


def pretrain(
    data: Data,
    config: RunConfig,
    out: Path,
    seed: int,
    model: Model | None,
    limit: float | None,
    max_bad: float,
    console: Console,
) -> Model:
    """Self-supervised training on the training rows, labelled or not."""
    if model is None:
        model = build(data, config, seed)
    else:
        adopt(model, data, console, seed)
    store = stored(model, data, "train", config)
    data.ledger.check(len(store.place), max_bad)
    for line in data.ledger.lines():
        console.print(f"[yellow]Ledger[/] {line}", highlight=False)
    batches, made, steps = course(store, config, seed)
    learner = Learner(model.network, made, seed)
    steps = steps_within(learner, batches, steps, limit, out)
    console.print(
        f"[bold]Pretraining[/] {steps:,} steps, {_parameters(model):,} parameters, "
        + " + ".join(f"{o.config.kind} {o.config.documents}" for o in made),
        highlight=False,
    )
    weights = {o.tag: o.config.weight for o in made}
    progress = Progress("pretraining", silent=console.quiet)
    result = _run(learner, batches, config, steps, out, seed, None, weights, progress)
    task = Task(list(data.given), list(data.ask))
    model.tasks = [task] if task.ask else []
    model.provenance = provenance(data, config, seed, result, "pretrain", model.provenance)
    return model


def course(store: Store, config: RunConfig, seed: int) -> tuple[Loader, list[Objective], int]:
    """Pretraining on a store: its batches, its objectives, and for how many steps."""
    batches, made = loader(store, _useful(config.pretrain.objectives, store), config, seed)
    rows = max(batches.rows_per_epoch(o.tag) for o in made)
    documents = max(o.config.documents for o in made)
    p = config.pretrain
    return batches, made, p.steps or count_steps(rows, documents, p.epochs, p.least_steps, p.most_steps)


def _useful(objectives: list[ObjectiveConfig], store: Store) -> list[ObjectiveConfig]:
    """Leaves out objectives that this table gives nothing to (two views of a plain number)."""
    from onetrunk.core.registry import objectives as kinds

    present, windows = store.present, store.windows()
    kept = [
        config
        for config in objectives
        if len(kinds.get(config.kind)(config.kind, config, store.names, store.codecs).pool(present, windows))
    ]
    if not kept:
        raise DataError("There is nothing to learn from: every training row is empty in the chosen columns.")
    return kept


def finetune(
    data: Data,
    config: RunConfig,
    out: Path,
    seed: int,
    model: Model,
    pretrained: bool,
    max_bad: float,
    console: Console,
    limit: float | None = None,
    teacher: Model | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Trains one task, in place, from a teacher's answers too if there is one. Returns the model, as it was where
    training does not help, and what was decided and why."""
    task = Task(list(data.given), list(data.ask))
    store = stored(model, data, "train", config)
    data.ledger.check(len(store.place), max_bad)
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
    spreads = pretrained and config.finetune.spread and len(labelled) < len(store.place)
    validates = pretrained and not spreads and len(validation) < _FEWEST_VALIDATED
    share = None if limit is None else limit / (config.finetune.repeats + validates * config.finetune.folds)
    if spreads:
        store, labelled = _with_neighbours(model, data, store, task, config)
        console.print(f"Labels of neighbours: learning from {len(labelled):,} rows", highlight=False)
        decision |= {"rows_with_neighbours_labels": len(labelled), "kept": "fine-tuned on neighbours' labels"}
    elif validates:
        gain = _cross_validated(model, store, labelled, task, config, seed, data.part("train"), share, teacher)
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
        place = out if config.finetune.repeats == 1 else out / "checkpoints" / f"seed-{seed + repeat}"
        result = _tune(
            candidate,
            store,
            labelled,
            task,
            config,
            place,
            seed + repeat,
            pretrained,
            validation,
            progress,
            share,
            teacher,
        )
        tried.append((result.best_metric, candidate, result))
    judged = model.codec(task.ask[0])
    better = judged.higher_is_better if _judged_by_metric(judged) else False
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
    config: RunConfig,
    out: Path,
    seed: int,
    pretrained: bool,
    validation: Table | None,
    progress: Progress,
    limit: float | None = None,
    teacher: Model | None = None,
) -> TrainResult:
    f = config.finetune
    documents = f.documents or int(np.clip(len(labelled) // 16, 16, 256))
    kind, options = ("predict", {}) if teacher is None else ("distil", f.distil.model_dump())
    objective = ObjectiveConfig(kind=kind, documents=documents, given=task.given, ask=task.ask, options=options)
    rows = Store(store.names, store.codecs, store.contents, store.place[labelled])
    rows.row_weight = None if store.row_weight is None else store.row_weight[labelled]
    batches, made = loader(rows, [objective], config, seed)
    for each in made:
        if isinstance(each, Distil):
            each.learn_from(teacher.network)
    learner = Learner(model.network, made, seed)
    steps = f.steps or count_steps(batches.rows_per_epoch(kind), documents, f.epochs, f.least_steps, f.most_steps)
    steps = steps_within(learner, batches, steps, limit, out)
    if f.lora is not None and f.freeze not in (0, "trunk"):
        raise UsageError(
            f"finetune.lora freezes the whole trunk and --freeze {f.freeze} a part of it: name one of them."
        )
    trainable.freeze(model, task, f.freeze if f.lora is None else "trunk")
    if f.lora is not None:
        trainable.add_lora(model, task, f.lora, seed)
        if "optimizer" not in config.train.model_fields_set:
            config = config.model_copy(update={"train": config.train.updated(optimizer="adamw")})
    trainable.layer_rates(model, task, f.layer_rate)
    if pretrained:
        train = config.train.updated(lr=config.train.lr * f.rate, muon_lr=config.train.muon_lr * f.rate)
        config = config.model_copy(update={"train": train})
    validate = _validator(model, task, validation, f.metric) if validation is not None and len(validation) else None
    result = _run(learner, batches, config, steps, out, seed, validate, {}, progress)
    for parameter in model.network.parameters():
        parameter.requires_grad_(True)
    return result


def _with_neighbours(model: Model, data: Data, store: Store, task: Task, config: RunConfig) -> tuple[Store, np.ndarray]:
    """The training rows with the asked column filled, and weighed by how sure that is."""
    table = data.part("train")
    values, sure = spread(model, store, task, table[task.ask[0]])
    filled = Table({**table.columns, task.ask[0]: values}, table.source, table.row)
    columns = [model.columns[name] for name in store.names]
    out = with_row_weights(encode(filled, columns, model.network.codecs, _unread()), table, config.row_weight)
    out.row_weight = sure if out.row_weight is None else sure * out.row_weight
    return out, np.arange(len(table))


def _judged_by_metric(codec: Codec) -> bool:
    """Does an answer take one step? Others would cost too much while training."""
    return codec.pooled or codec.history or codec.reads_on() is not None


def _metrics(model: Model, task: Task, table: Table) -> dict[str, float | None]:
    """The first asked column's, over the rows that hold it; a history's last steps are what it is asked for."""
    name = task.ask[0]
    codec = model.codec(name)
    before, then = before_and_then(codec, table[name])
    rows = usable(codec, then)
    columns = {n: [table[n][i] for i in rows] for n in task.given if n in table.columns}
    if codec.history:
        columns[name] = [before[i] for i in rows]
    return codec.metrics(model.answer(columns, name, task.given), [then[i] for i in rows])


def _validator(model: Model, task: Task, validation: Table, metric: str | None) -> Any:
    """Returns (value, is higher better, all metrics): the first asked column's, or its loss if answers take steps."""
    name = task.ask[0]
    codec = model.codec(name)
    store = encode(
        validation,
        [column for n, column in model.columns.items() if n in (*task.given, *task.ask)],
        model.network.codecs,
        _unread(),
    )
    rows = np.flatnonzero(store.place[:, store.names.index(name)] >= 0)
    store.place = store.place[rows]
    truths = [validation[name][i] for i in rows]

    def by_metric() -> tuple[float, bool, dict[str, float | None]]:
        if codec.history:
            found = _metrics(model, task, validation)
        else:
            found = codec.metrics(answer(model.network, store, task.given, name), truths)
        chosen = metric or next(iter(found))
        value = found.get(chosen)
        return (0.0 if value is None else value), codec.higher_is_better if metric is None else True, found

    def by_loss() -> tuple[float, bool, dict[str, float | None]]:
        from onetrunk.inference.likelihood import mean_loss

        loss = mean_loss(model.network, store, task.given, name)
        return loss, False, {"loss": loss}

    return by_metric if _judged_by_metric(codec) else by_loss


def _cross_validated(
    model: Model,
    store: Store,
    labelled: np.ndarray,
    task: Task,
    config: RunConfig,
    seed: int,
    train: Table,
    limit: float | None,
    teacher: Model | None,
) -> dict[str, float]:
    """How good the asked column is on held-out labels (its main metric, or its loss where answers take steps: higher is
    better), as the model is and after fine-tuning on the others.

    The model as it is may have met the held-out labels in pretraining, and then knows them by heart: the comparison
    favours it. `limit` bounds each fine-tuning, in seconds.
    """
    name = task.ask[0]
    folds = min(config.finetune.folds, len(labelled))
    fold_of = np.empty(len(labelled), dtype=np.int64)
    fold_of[rng.permutation(rng.key(seed, "folds"), len(labelled))] = np.arange(len(labelled)) % folds
    quick = config.model_copy(update={"train": config.train.updated(tensorboard=False)})
    scores: dict[str, list[float]] = {"pretrained": [], "fine-tuned": []}
    for fold in range(folds):
        held = labelled[fold_of == fold]
        held = held[store.place[held, store.names.index(name)] >= 0]
        if not len(held):
            continue
        tuned = copy.deepcopy(model)
        with tempfile.TemporaryDirectory() as place:
            rest = labelled[fold_of != fold]
            quiet = Progress(silent=True)
            _tune(tuned, store, rest, task, quick, Path(place), seed, True, None, quiet, limit, teacher)
        for label, candidate in (("pretrained", model), ("fine-tuned", tuned)):
            value, higher_is_better, _ = _validator(candidate, task, train.take(held), None)()
            scores[label].append(value if higher_is_better else -value)
    return {label: float(np.mean(values)) for label, values in scores.items()}


def _run(
    learner: Learner,
    batches: Any,
    config: RunConfig,
    steps: int,
    out: Path,
    seed: int,
    validate: Any,
    weights: dict[str, float],
    progress: Progress,
) -> TrainResult:
    settings = {"steps": steps, "loss_weights": {**weights, **config.train.loss_weights}}
    if validate is not None and not config.train.validate_every:
        settings["validate_every"] = max(1, steps // _VALIDATIONS)
    if not config.train.save_every:
        settings["save_every"] = max(50, steps // 10)
    train = TrainConfig.parse({**config.train.model_dump(), **settings})
    identity: dict[str, Any] = {"rows": _digest(batches.store), "start": _weights_digest(learner.model)}
    for each in learner.objectives:
        if isinstance(each, Distil):
            identity["teacher"] = [_weights_digest(each.teacher), each.options.weight, each.options.temperature]
    result = Trainer(
        learner, batches, train, out, seed=seed, identity=identity, validate=validate, progress=progress,
        flops=StepOperations(learner.model),
    ).run()  # fmt: skip
    if result.interrupted:
        raise InterruptedRunError(
            f"Stopped after step {result.step:,} of {steps:,}, saved in {out / 'checkpoints'}. "
            "The same command goes on from there.",
            result.interrupted,
        )
    return result


def provenance(
    data: Data,
    config: RunConfig,
    seed: int,
    result: TrainResult,
    stage: str,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a model was made of, and how: kept beside it."""
    made = {
        "stage": stage,
        "source": Path(data.table.source).name,
        "rows": {name: len(index) for name, index in data.split.parts().items()},
        "split": data.split.as_json(),
        "met": record(data.table, data.types, data.given or data.ask, data.split.parts()),
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
        "date": time.strftime("%Y-%m-%d"),
    }
    return {"stages": [*(before or {}).get("stages", []), made]}


def _digest(store: Store) -> str:
    """Equal for equal training rows, however they came: a run must not go on with others."""
    found = hashlib.blake2b(store.place.tobytes(), digest_size=8)
    for content in store.contents:
        if content.lens is not None:
            found.update(content.lens.tobytes())
        for name, array in sorted(content.gather().items()):  # a cache gives them back in an order of its own
            found.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _weights_digest(network: FoundationModel) -> str:
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def _parameters(model: Model) -> int:
    return sum(p.numel() for p in model.network.parameters())


def _unread() -> Any:
    from onetrunk.data.ledger import Ledger

    return Ledger()
