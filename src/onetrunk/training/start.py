"""What a training verb starts from (`--from`): a model folder, a Hugging Face folder, or hf://name."""

from __future__ import annotations

from typing import Any

import torch

from onetrunk.core import rng
from onetrunk.core.column import Codec
from onetrunk.core.errors import UsageError
from onetrunk.engine.runtime import Runtime
from onetrunk.inference.model_folder import Model, load
from onetrunk.interop import huggingface
from onetrunk.nn.restructure import restructured
from onetrunk.training.recipe import SIZES, Recipe

_GENTLE = {"optimizer": "adamw", "lr": 1e-4}  # what others trained for long is easily forgotten


def start_from(
    source: str | None, run: Recipe, network: bool, seed: int, restructure: bool = False
) -> tuple[Model | None, Recipe]:
    """The model, if any, on the run's device, and the run's configuration with it: the model says whether what is given
    is causal, and one that was imported is trained gently unless the user chose an optimizer or learning rate.

    Settings of trunk and columns that differ from the model's change it with `restructure`; else they are an error.
    """
    if source is None:
        return None, run
    path = huggingface.locate(source, network)
    torch.manual_seed(rng.torch_seed(seed, "start"))  # what no checkpoint holds, and new layers, begin at random
    model = huggingface.read(path) if huggingface.is_checkpoint(path) else load(path, device="cpu")
    _change(model, run, source, restructure)
    Runtime.open(run.device).place(model.network)
    given = "causal" if model.network.given_causal else "bidirectional"
    train = run.train
    if [stage["stage"] for stage in model.provenance.get("stages", [])] == ["import"]:
        train = train.updated(**{k: v for k, v in _GENTLE.items() if k not in train.model_fields_set})
    return model, run.model_copy(update={"given": given, "train": train})


def _change(model: Model, run: Recipe, source: str, allowed: bool) -> None:
    """Makes the model what the settings say, keeping what it learnt."""
    trunk = model.network.trunk
    told = {**(SIZES[run.size] if "size" in run.model_fields_set else {}), **run.trunk}
    trunk_changes = {k: v for k, v in told.items() if v != getattr(trunk.config, k, None)}
    options = {
        name: {k: v for k, v in told.items() if k != "type" and v != getattr(model.codec(name).options, k, None)}
        for name, told in run.columns.items()
        if name in model.columns
    }
    changes = {f"trunk.{k}": (getattr(trunk.config, k, None), v) for k, v in trunk_changes.items()}
    for name, own in options.items():
        changes |= {f"columns.{name}.{k}": (getattr(model.codec(name).options, k, None), v) for k, v in own.items()}
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
    for name, own in options.items():
        if own:
            _set_options(model.codec(name), model.network.width, name, own)


def _set_options(codec: Codec, width: int, name: str, changes: dict[str, Any]) -> None:
    """Options that leave the weights' shapes as they are, and that fitting did not settle. UsageError for others."""
    options = {**codec.options.model_dump(), **changes}
    known = codec.knowledge()
    settled = [key for key, value in changes.items() if key in known and known[key] != value]
    other = type(codec)(options)
    other.set_knowledge(known)
    with torch.device("meta"):
        other.build(width)
    if settled or _shapes(other) != _shapes(codec):
        key = settled[0] if settled else ", ".join(changes)
        raise UsageError(f"columns.{name}.{key} is fixed in a trained model: its weights depend on it.")
    codec.options = other.options


def _shapes(codec: Codec) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in codec.named_parameters()}
