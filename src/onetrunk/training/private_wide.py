"""What private fine-tuning from nothing does by default where the given columns have simple features and a class is
asked: it learns a linear model of them, and no trunk, whose many parameters would all have to be hidden in noise."""

from __future__ import annotations

import time
from dataclasses import replace

from onetrunk.core.encoder import reads_on
from onetrunk.core.events import Note, StageFinished, StageStarted
from onetrunk.core.secret import Secret
from onetrunk.core.wide import WideTarget
from onetrunk.engine.accountant import noise_for
from onetrunk.engine.private import Privacy
from onetrunk.engine.progress import Progress
from onetrunk.inference.model_folder import Model, Task
from onetrunk.training.beside_wide import can_be_wide
from onetrunk.training.context import RunContext
from onetrunk.training.finetune import Choice, FineTuned, labelled_rows
from onetrunk.training.open_data import Data
from onetrunk.training.stage import encode_rows, provenance, untrained
from onetrunk.training.wide import wide_rows
from onetrunk.training.wide.private import STEPS, fit_private, hashed_readout

_STAGE = "private linear model"


def private_wide(data: Data, context: RunContext, model: Model) -> FineTuned | None:
    """A new model with a privately learnt wide read-out, which answers alone. None where the trunk is to be trained:
    without privacy, where the recipe says so (`finetune.wide`, LoRA, a teacher), or where no such read-out is possible.
    It takes seconds, and a run that is stopped begins anew."""
    task, recipe = Task(list(data.given), list(data.ask)), context.recipe
    if recipe.private is None or context.teacher is not None or recipe.finetune.lora is not None:
        return None
    if len(task.ask) > 1 or not can_be_wide(data, recipe) or not _is_one_class(model, task.ask[0]):
        return None
    store = encode_rows(model, data, "train", recipe)
    labelled = labelled_rows(store, task)
    rows = wide_rows(store, task.given, task.ask[0], labelled)
    if rows is None:
        return None
    context.show_ledger(data, len(store.index))
    private, steps, began = recipe.private, recipe.finetune.steps or STEPS, time.monotonic()
    noise = noise_for(private.eps, private.delta, 1.0, steps)
    privacy = Privacy(private.delta, private.clip, noise, 1.0, float(rows.count), steps)
    if context.output is not None:
        context.output.begin()
    context.on_event(
        Note("A linear model of simple features is learnt (finetune.wide=false trains the trunk instead).")
    )
    readout = hashed_readout(rows)
    parameters = sum(tensor.numel() for tensor in readout.buffers())
    context.on_event(StageStarted(_STAGE, rows.count, steps, parameters, {"predict": rows.count}))
    progress, epsilon = Progress(_STAGE, context.on_event), privacy.epsilon(steps)
    progress.start(0, steps)
    fit_private(
        readout, rows, privacy, private.eps, Secret(),
        lambda step, loss: progress.update(step, loss, 0.0, None, epsilon),
    )  # fmt: skip
    progress.close()
    model.network.add_wide(task.ask[0], readout.to(next(model.network.parameters()).device))
    seconds = time.monotonic() - began
    context.on_event(StageFinished(_STAGE, steps, seconds, None, None))
    model.tasks = [task]
    result = replace(untrained(model, seconds), step=steps, mode="fp32", facts=privacy.facts(steps))
    model.provenance = provenance(model, data, context, result, "wide")
    return FineTuned(model, Choice(len(labelled), kept="the wide read-out alone"))


def _is_one_class(model: Model, name: str) -> bool:
    """Has each row of the column one class, rather than shares of several or a number?"""
    encoder = model.encoder(name)
    if not isinstance(encoder, WideTarget) or reads_on(encoder) is not None:
        return False
    content = encoder.stack([encoder.blank()])
    target, classes = encoder.wide_target(content)
    return classes > 0 and target.ndim == 1 and encoder.wide_shares(content) is None
