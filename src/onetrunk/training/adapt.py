"""Which parameters fine-tuning changes, and how fast: frozen blocks, LoRA, layer-wise learning rates."""

from __future__ import annotations

import torch
from torch import nn

from onetrunk.core import rng
from onetrunk.core.encoder import Prompted
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Model, Task
from onetrunk.nn import lora
from onetrunk.nn.lora import LoRAConfig
from onetrunk.storage.strict_json import read_json
from onetrunk.training.open_data import Data
from onetrunk.training.recipe import FinetuneConfig


def frozen_keys(model: Model, data: Data, tuning: FinetuneConfig | None) -> set[str]:
    """Keys of modules whose embeddings fine-tuning freezes: a new word's would never be learnt."""
    if tuning is None or not (tuning.freeze or tuning.lora):
        return set()
    given, asked = ({model.columns[n].key for n in names if n in model.columns} for names in (data.given, data.ask))
    return given - asked


def freeze(model: Model, task: Task, freeze: int | str) -> None:
    """What is given must reach frozen blocks as it did: whatever embeds it is frozen too. An asked column stays
    trainable, but of a module that it shares with a given one only what reads out."""
    if freeze == 0:
        return
    network = model.network
    embedding = {model.columns[name].key for name in task.given}
    kept = {
        id(p)
        for key in {model.columns[name].key for name in task.ask}
        for name, p in network.column_modules[key].named_parameters()
        if key not in embedding or name.partition(".")[0] in network.column_modules[key].read_out
    }
    blocks = len(network.trunk.layers) if freeze == "trunk" else int(freeze)
    if not 0 < blocks <= len(network.trunk.layers):
        raise UsageError(f"--freeze {freeze}: the model has {len(network.trunk.layers)} blocks.")
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in kept)
    for block in network.trunk.layers[blocks:]:
        block.requires_grad_(True)
    if freeze != "trunk":
        network.trunk.norm.requires_grad_(True)


def add_lora(model: Model, task: Task, config: LoRAConfig, seed: int) -> None:
    """The frozen trunk gets changes of low rank. A text that the base already writes keeps its table and read-out, so
    that these changes are all there is to it."""
    if model.folder is None:
        raise UsageError("finetune.lora changes a model folder, by whose hash it knows it: name one with --from.")
    known = read_json(model.folder / "onetrunk.json")["encoders"]
    for column in (model.columns[name] for name in task.ask):
        if column.key in known and isinstance(model.encoder(column.name), Prompted):
            model.module(column.name).requires_grad_(False)
    torch.manual_seed(rng.torch_seed(seed, "lora"))
    lora.add(model.network.trunk, config)


def layer_rates(model: Model, task: Task, rate: float) -> dict[nn.Module, float]:
    """Shares of the learning rate, by part of the model. The nearer to what is given, the slower (ULMFiT, arXiv
    1801.06146); what is asked learns at the full rate."""
    if rate == 1:
        return {}
    layers = model.network.trunk.layers
    rates = {block: rate ** (len(layers) - 1 - depth) for depth, block in enumerate(layers)}
    asked = {model.columns[name].key for name in task.ask}
    for key, module in model.network.column_modules.items():
        rates[module] = 1.0 if key in asked else rate ** len(layers)
    return rates
