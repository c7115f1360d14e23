"""Private training of classes, and beside it Opacus on the same rows with the same promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.common import Figures, Run
from bench.tables import MOST_BAD, ends
from onetrunk.core.encoder import class_names
from onetrunk.inference.model_folder import Model
from onetrunk.training.open_data import Data
from onetrunk.training.private import private_recipe
from onetrunk.training.private_wide import private_wide
from onetrunk.training.stage import new_model

DELTA, MAIN = 1e-5, 3.0
_AT_ONCE = 256  # rows whose gradients Opacus holds
_RESAMPLES = 300


@dataclass(frozen=True)
class Rival:
    """A network that Opacus trains by DP-SGD with momentum: `rows` a step, learning rate `rate`. `inputs` are those of
    the training rows and of a part's, float32."""

    name: str
    network: Callable[[int], nn.Module]  # of so many inputs a row
    inputs: Callable[[Data, str], Sequence[np.ndarray]]
    rate: float
    rows: int
    epochs: int
    clip: float = 1.0


def compare_private(
    run: Run, table: Any, settings: dict[str, Any], ask: str, epsilons: Sequence[float], rival: Rival
) -> Figures:
    """Accuracy at every epsilon; `ours` is that at epsilon 3."""
    config, _ = run.config({**settings, "private": {"eps": MAIN, "delta": DELTA}})
    data = run.open(table, config, ask=[ask])
    test = data.rows(run.split)
    facts: dict[str, Any] = {}

    def ours(eps: float) -> dict[str, Any]:
        assert config.private is not None
        recipe = private_recipe(config.model_copy(update={"private": config.private.updated(eps=eps)}))
        context = run.context(recipe, run.place / f"eps-{eps:g}", max_bad=MOST_BAD)
        tuned = private_wide(data, context, new_model(data, recipe, run.seed))
        assert tuned is not None, "a class is asked of columns that have features"
        model = tuned.model
        right = model.evaluation(ask).per_row(model.answer(test, ask, data.given), test[ask])
        return {"right": right.tolist(), **{k: model.provenance["stages"][-1]["private"][k] for k in _SHOWN}}

    right: dict[str, dict[float, np.ndarray]] = {"ours": {}, "Opacus": {}}
    for eps in epsilons:
        made = run.part(f"ours at {eps:g}", partial(ours, eps))
        right["ours"][eps] = np.array(made.pop("right"))
        facts[f"epsilon {eps:g}"] = made
        if run.rival:
            theirs = run.part(f"Opacus at {eps:g}", partial(_opacus, run, data, ask, eps, rival))
            right["Opacus"][eps] = np.array(theirs["right"])
    draws = np.random.default_rng(run.seed).integers(0, len(test), (_RESAMPLES, len(test)))
    means = {name: {eps: each[draws].mean(1) for eps, each in own.items()} for name, own in right.items()}
    at: dict[str, dict[str, Any]] = {}
    for eps in epsilons:
        at[f"epsilon {eps:g}"] = {name: float(own[eps].mean()) for name, own in right.items() if own}
        at[f"epsilon {eps:g}"] |= {f"{name}_interval": ends(own[eps]) for name, own in means.items() if own}
    also: dict[str, Any] = {"accuracy": at, "private": facts}
    if run.rival:
        also["difference_interval"] = ends(means["ours"][MAIN] - means["Opacus"][MAIN])
    return Figures(
        ours=float(right["ours"][MAIN].mean()),
        interval=ends(means["ours"][MAIN]),
        unit="accuracy at epsilon 3",
        rival_name=f"Opacus, {rival.name}",
        rival=float(right["Opacus"][MAIN].mean()) if run.rival else None,
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        also=also,
    )


_SHOWN = ("epsilon", "noise", "rate", "steps")


def _labels(model: Model, values: Sequence[Any], ask: str) -> np.ndarray:
    classes = class_names(model.encoder(ask)) or []
    return np.array([classes.index(name) for name in model.evaluation(ask).target(values)])


def _opacus(run: Run, data: Data, ask: str, eps: float, rival: Rival) -> dict[str, Any]:
    """Which answers are right."""
    from opacus import PrivacyEngine
    from opacus.utils.batch_memory_manager import BatchMemoryManager

    config, _ = run.config({})
    model = new_model(data, config, run.seed)  # which numbers its classes
    train_y, test_y = (_labels(model, data.rows(part)[ask], ask) for part in ("train", run.split))
    train_x, test_x = (torch.from_numpy(np.ascontiguousarray(x)).float() for x in rival.inputs(data, run.split))
    torch.manual_seed(run.seed)
    module = rival.network(train_x.shape[1])
    rows = torch.utils.data.TensorDataset(train_x, torch.from_numpy(train_y).long())
    loader = torch.utils.data.DataLoader(rows, batch_size=rival.rows)
    optimizer: Any = torch.optim.SGD(module.parameters(), rival.rate, momentum=0.9)
    made: Any = PrivacyEngine(accountant="prv").make_private_with_epsilon(
        module=module, optimizer=optimizer, data_loader=loader, target_epsilon=eps, target_delta=DELTA,
        epochs=rival.epochs, max_grad_norm=rival.clip,
    )  # fmt: skip
    private, optimizer, loader = made
    for _ in range(rival.epochs):
        with BatchMemoryManager(data_loader=loader, max_physical_batch_size=_AT_ONCE, optimizer=optimizer) as few:
            for inputs, targets in few:
                optimizer.zero_grad()
                nn.functional.cross_entropy(private(inputs), targets).backward()
                optimizer.step()
    with torch.no_grad():
        answers = private.eval()(test_x).argmax(1).numpy()
    return {"right": (answers == test_y).astype(float).tolist()}
