"""Activation checkpointing: blocks that keep only what enters them give the same bits, and hold less."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from test_counting import FP32
from torch.utils.checkpoint import checkpoint

from onetrunk.core.errors import UsageError
from onetrunk.data.loader import Loader
from onetrunk.engine.counting import count, fake
from onetrunk.engine.optim import OptimConfig
from onetrunk.engine.step import recompute
from onetrunk.engine.trainer import TrainConfig, Trainer
from onetrunk.training.batches import updates_of

TABLE = {
    "text": ["to be or not to be", "that is the question", "whether", "nobler in the mind"] * 4,
    "label": [*"abcd"] * 4,
}
TYPES = {"text": "text", "label": "category"}


def learner_of(awake: bool = True, **trunk: Any) -> tuple[Any, Any]:
    made = worlds.model(TABLE, TYPES, trunk={**worlds.TRUNK, "dropout": 0.2, **trunk}, awake=awake)
    store = worlds.store_of(made, TABLE)
    learner = worlds.learner(made, worlds.objective(store, documents=12, given=["text"], ask=["label"]))
    return learner, Loader(store, list(learner.objectives), seed=0, tokens_per_batch=32)


def trained(folder: Path, on: bool, trunk: dict[str, Any] | None = None, **settings: Any) -> tuple[list[Any], Any]:
    torch.manual_seed(0)
    learner, batches = learner_of(**(trunk or {}))
    config = TrainConfig.parse(
        {"steps": 4, "precision": "fp32", "tensorboard": False, "activation_checkpointing": on, **settings}
    )
    result = Trainer(learner, batches, config, folder, updates=updates_of(learner)).run()
    assert len(batches(0)) > 1  # a step is accumulated
    return [record["losses"] for record in result.history], learner


@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16"}, {"merge": "pcgrad"}, {"kernels": "plain"}],
    ids=["fp32", "bf16", "pcgrad", "plain"],
)
def test_losses_and_weights_are_the_same_bits_also_with_dropout(settings: dict[str, Any], tmp_path: Path) -> None:
    kept, learner = trained(tmp_path / "kept", False, **settings)
    again, other = trained(tmp_path / "again", True, **settings)
    assert again == kept
    for (name, one), two in zip(learner.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_another_draw_of_dropout_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = trained(tmp_path / "kept", False)

    def careless(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(*args, **kwargs, preserve_rng_state=False)

    monkeypatch.setattr("onetrunk.nn.block.checkpoint", careless)
    again, _ = trained(tmp_path / "again", True)
    assert again[0] == kept[0] and again != kept  # the first step's losses come before any gradient


def test_a_run_goes_on_with_or_without_it(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", False)
    trained(tmp_path / "parts", True, steps=4, save_every=2, keep=4)
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-4")
    (tmp_path / "parts" / "metrics.jsonl").unlink()
    rest, _ = trained(tmp_path / "parts", False, steps=4, save_every=2, keep=4)
    assert rest == whole[2:]


def test_blocks_hold_less_of_what_a_forward_pass_leaves() -> None:
    def activations(on: bool) -> float:
        with fake():
            learner, batches = learner_of(awake=False, layers=6)
        counts = count(learner, batches(0)[0], OptimConfig(), FP32, updates_of(learner), recomputed=on)
        assert counts.passes >= counts.activations
        return counts.activations

    assert activations(True) < 0.3 * activations(False)


def test_a_recurrent_trunk_has_no_blocks() -> None:
    with pytest.raises(UsageError, match="a recurrent trunk has none"):
        recompute([], True)
