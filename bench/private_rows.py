"""Private training on the rows of a comparison, and beside it Opacus on the same rows with the same promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bench.common import Run
from bench.tables import MOST_BAD
from onetrunk.core.encoder import class_names
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import Model
from onetrunk.training.finetune import finetune_model
from onetrunk.training.open_data import Data
from onetrunk.training.private import private_recipe
from onetrunk.training.recipe import Recipe
from onetrunk.training.stage import new_model

DELTA = 1e-5
_AT_ONCE = 256  # rows whose gradients Opacus holds


def finetuned(run: Run, data: Data, config: Recipe, eps: float) -> Model:
    """Ours, from nothing, with this promise."""
    chosen = private_recipe(
        config.model_copy(update={"private": config.private.updated(eps=eps) if config.private else None})
    )
    context = run.context(chosen, run.place / f"eps-{eps:g}", max_bad=MOST_BAD)
    return finetune_model(data, context, new_model(data, chosen, run.seed), pretrained=False).model


def rightness(model: Model, rows: Table, ask: str, given: list[str]) -> np.ndarray:
    """Which answers are right, float64 [rows]."""
    return model.evaluation(ask).per_row(model.answer(rows, ask, given), rows[ask])


def labels(model: Model, rows: Table, ask: str) -> np.ndarray:
    classes = class_names(model.encoder(ask)) or []
    return np.array([classes.index(name) for name in model.evaluation(ask).target(rows[ask])])


def opacus_rightness(
    module: nn.Module,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    eps: float,
    rate: float,
    rows: int,
    epochs: int,
    clip: float,
    seed: int,
) -> np.ndarray:
    """Which answers are right of a module that Opacus has trained by DP-SGD with momentum: `rows` a step, learning rate
    `rate`. float64 [test rows]"""
    from opacus import PrivacyEngine
    from opacus.utils.batch_memory_manager import BatchMemoryManager

    torch.manual_seed(seed)
    x, y = (torch.from_numpy(np.ascontiguousarray(each)) for each in train)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x.float(), y.long()), batch_size=rows)
    optimizer: Any = torch.optim.SGD(module.parameters(), rate, momentum=0.9)
    engine = PrivacyEngine(accountant="prv")
    made: Any = engine.make_private_with_epsilon(
        module=module, optimizer=optimizer, data_loader=loader, target_epsilon=eps, target_delta=DELTA, epochs=epochs,
        max_grad_norm=clip,
    )  # fmt: skip
    private, optimizer, loader = made
    for _ in range(epochs):
        with BatchMemoryManager(data_loader=loader, max_physical_batch_size=_AT_ONCE, optimizer=optimizer) as few:
            for inputs, targets in few:
                optimizer.zero_grad()
                nn.functional.cross_entropy(private(inputs), targets).backward()
                optimizer.step()
    with torch.no_grad():
        answers = private.eval()(torch.from_numpy(np.ascontiguousarray(test[0])).float()).argmax(1).numpy()
    return (answers == test[1]).astype(np.float64)
