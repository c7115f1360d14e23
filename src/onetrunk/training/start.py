"""Opens the model that training starts from (`--from`): a model folder, a Hugging Face folder, or hf://name."""

from __future__ import annotations

from typing import Any

import torch

from onetrunk.core import rng
from onetrunk.core.errors import UsageError
from onetrunk.core.module import ColumnModule
from onetrunk.engine.runtime import Runtime
from onetrunk.inference.model_folder import Model, load
from onetrunk.nn.restructure import restructured
from onetrunk.training.recipe import SIZES, Recipe

_GENTLE = {"optimizer": "adamw", "lr": 1e-4}  # what others trained for long is easily forgotten


def start_from(
    source: str | None, recipe: Recipe, allow_network: bool, seed: int, restructure: bool = False
) -> tuple[Model | None, Recipe]:
    """The model, if any, on the recipe's device, and the recipe with what the model decides: its attention, and for one
    that was imported gentle training, unless the user chose an optimizer or a learning rate.

    Settings of trunk and columns that differ from the model's change it with `restructure`; else they are an error.
    """
    if source is None:
        return None, recipe
    from onetrunk.interop import huggingface  # who starts from nothing does not wait for it

    path = huggingface.locate(source, allow_network)
    torch.manual_seed(rng.torch_seed(seed, "start"))  # what no checkpoint holds, and new layers, begin at random
    model = huggingface.read(path) if huggingface.is_checkpoint(path) else load(path, device="cpu")
    attention = "causal" if model.network.given_causal else "bidirectional"
    if "attention" in recipe.model_fields_set and recipe.attention != attention:
        raise UsageError(
            f"attention is {attention} in the model {source}, and {recipe.attention} in the settings: leave it out."
        )
    _apply_settings(model, recipe, source, restructure)
    Runtime.open(recipe.device).place(model.network)
    train = recipe.train
    if [stage["stage"] for stage in model.provenance.get("stages", [])] == ["import"]:
        train = train.updated(**{k: v for k, v in _GENTLE.items() if k not in train.model_fields_set})
    return model, recipe.model_copy(update={"attention": attention, "train": train})


def _apply_settings(model: Model, recipe: Recipe, source: str, allowed: bool) -> None:
    """Makes the model what the settings say, keeping what it learnt."""
    trunk = model.network.trunk
    sized = SIZES[recipe.size] if "size" in recipe.model_fields_set else {}
    trunk_changes = {k: v for k, v in {**sized, **recipe.trunk}.items() if v != getattr(trunk.config, k, None)}
    column_changes = {
        name: {k: v for k, v in settings.items() if k != "type" and v != getattr(model.encoder(name).options, k, None)}
        for name, settings in recipe.columns.items()
        if name in model.columns
    }
    changes = {f"trunk.{k}": (getattr(trunk.config, k, None), v) for k, v in trunk_changes.items()}
    for name, own in column_changes.items():
        changes |= {f"columns.{name}.{k}": (getattr(model.encoder(name).options, k, None), v) for k, v in own.items()}
    if not changes:
        return
    if not allowed:
        key, (has, wanted) = next(iter(changes.items()))
        raise UsageError(
            f"{key} is {has!r} in the model {source}, and {wanted!r} in the settings. Leave it out, or change the "
            "model: finetune --restructure."
        )
    if trunk_changes:
        model.network.trunk = restructured(trunk, trunk_changes)
    for name, own in column_changes.items():
        if own:
            _set_options(model.module(name), name, own)


def _set_options(module: ColumnModule[Any], name: str, changes: dict[str, Any]) -> None:
    """Options that leave the weights' shapes as they are, and that fitting did not fix. UsageError for others."""
    encoder = module.encoder
    options = {**encoder.options.model_dump(), **changes}
    known = encoder.knowledge()
    fixed = [key for key, value in changes.items() if key in known and known[key] != value]
    other = type(encoder)(options)
    other.set_knowledge(known)
    with torch.device("meta"):
        rebuilt = type(module)(other, module.width)
    if fixed or _shapes(rebuilt) != _shapes(module):
        key = fixed[0] if fixed else ", ".join(changes)
        raise UsageError(f"columns.{name}.{key} is fixed in a trained model: its weights depend on it.")
    encoder.options = other.options


def _shapes(module: ColumnModule[Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters()}
