"""What is written by hand has a switch, and a plain twin that learns alike."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from torch import nn

from onetrunk.core.kernels import by_hand, kernels
from onetrunk.data.loader import Loader
from onetrunk.engine.trainer import TrainConfig, Trainer
from onetrunk.nn.kernels.cpu import attention, dropout, rms_norm, rotary, squared_relu
from onetrunk.objectives import Learner

TEXTS = {"text": ["the cat sat on the mat", "a dog ran", "the cat ran", "a dog sat on the mat"] * 4}
BY_HAND = (
    rms_norm._RMSNorm,
    dropout._Dropout,
    rotary._Rotate,
    squared_relu._SquaredReLU,
    attention._TiledAttention,
)


def learner() -> tuple[Learner, Loader]:
    made = worlds.model(TEXTS, {"text": "text"}, trunk={**worlds.TRUNK, "activation": "relu2", "dropout": 0.1})
    store = worlds.store_of(made, TEXTS)
    objectives = [worlds.objective(store, documents=8)]
    return Learner(made.network, objectives), Loader(store, objectives, seed=0, tokens_per_batch=512)


@pytest.mark.parametrize("choice", ["auto", "plain"])
def test_the_switch_turns_all_of_it_off(choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = set()
    for function in BY_HAND:
        apply = function.apply
        monkeypatch.setattr(function, "apply", lambda *a, f=function, g=apply: (used.add(f), g(*a))[1])
    model, batches = learner()
    config = TrainConfig(steps=2, precision="bf16", tensorboard=False, kernels=choice)
    Trainer(model, batches, config, tmp_path).run()
    assert used == (set(BY_HAND) if choice == "auto" else set())


def test_the_plain_twins_learn_alike(tmp_path: Path) -> None:
    losses: dict[str, list[Any]] = {}
    model, batches = learner()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # whose draws differ
    for choice in ("auto", "plain"):
        config = TrainConfig(steps=8, precision="fp32", tensorboard=False, kernels=choice)
        losses[choice] = Trainer(copy.deepcopy(model), batches, config, tmp_path / choice).run().history
    for one, other in zip(losses["auto"], losses["plain"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


def test_the_switch_is_set_inside_only() -> None:
    x = torch.zeros(1)
    with pytest.raises(ValueError, match="inside"), kernels("plain"):
        assert not by_hand(x) and not by_hand(x, compiled=True)
        raise ValueError("inside")
    assert by_hand(x) and not by_hand(torch.zeros(1, device="meta"))
