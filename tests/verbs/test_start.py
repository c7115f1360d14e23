"""finetune --restructure: settings that differ from the model's change it, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import worlds

from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import load
from onetrunk.training.recipe import make_recipe
from onetrunk.training.start import start_from

ROWS = {"title": worlds.CASES["text"].values, "kind": worlds.CASES["category"].values}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("restructure") / "model"
    worlds.model(ROWS, {"title": "text", "kind": "category"}).save(path)
    return str(path)


def test_a_deeper_model_with_other_options_answers_as_before(folder: str) -> None:
    run = make_recipe(
        {"trunk": {"layers": 4, "dropout": 0.1}, "columns": {"title": {"length": 12}, "kind": {"dropout": 0.5}}}, None
    )
    model, _ = start_from(folder, run, False, 0, restructure=True)
    assert len(model.network.trunk.layers) == 4 and model.network.trunk.config.dropout == 0.1
    assert model.encoder("title").options.length == 12 and model.encoder("kind").options.dropout == 0.5
    before, after = (
        [a.probability for a in m.network.eval() and m.answer(ROWS, "kind", ["title"])] for m in (load(folder), model)
    )
    for a, b in zip(before, after, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_the_same_settings_change_nothing(folder: str) -> None:
    run = make_recipe({"trunk": dict(worlds.TRUNK), "columns": {"title": {"type": "text", "unit": "bpe"}}}, None)
    model, _ = start_from(folder, run, False, 0)
    for name, tensor in load(folder).network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("settings", "restructure", "message"),
    [
        (["trunk.layers=3"], False, r"trunk\.layers is 2 in the model .*, and 3 in the settings.*--restructure"),
        (["size=small"], False, r"trunk\.width is 32"),
        (["columns.kind.dropout=0.5"], False, r"columns\.kind\.dropout is 0\.0"),
        (["trunk.width=64"], True, r"trunk\.width is fixed"),
        (["columns.title.bigrams=8"], True, r"columns\.title\.bigrams is fixed in a trained model"),
    ],
)
def test_what_differs_is_said(folder: str, settings: list[str], restructure: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        start_from(folder, make_recipe(None, settings), False, 0, restructure)


def test_rates_fall_with_the_distance_from_what_is_asked(folder: str, tmp_path: Path) -> None:
    from onetrunk.engine.optim import OptimConfig
    from onetrunk.engine.step import Updates
    from onetrunk.inference.model_folder import Task
    from onetrunk.training.adapt import layer_rates

    model = load(folder)
    updates = Updates(model.network.blocks, layer_rates(model, Task(["title"], ["kind"]), 0.5))
    parameters = dict(model.network.named_parameters())
    optimizer = updates.optimizer(parameters, model.network, OptimConfig(lr=0.1, muon_lr=0.2), False)
    result = {
        optimizer.names[p]: group["lr"]
        for part in optimizer.optimizers
        for group in part.param_groups
        for p in group["params"]
    }
    name = model.network.column_modules.parameter_name
    assert result[name("kind", "head")] == result["trunk.norm.weight"] == result["markers.0"] == pytest.approx(0.1)
    assert result["trunk.layers.1.self_attn.q_proj.weight"] == pytest.approx(0.2)
    assert result["trunk.layers.0.self_attn.q_proj.weight"] == pytest.approx(0.1)
    assert result["trunk.layers.0.input_layernorm.weight"] == pytest.approx(0.05)
    assert result[name("text", "table")] == pytest.approx(0.025)
