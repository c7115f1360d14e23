"""Adapter folders: the small changes that a model learnt on top of its base (LoRA).

The trunk's changes of low rank lie in PEFT's layout, so that `peft` loads them on the base's Hugging Face export;
columns.safetensors holds every other tensor that is not the base's (a new column's, a grown vocabulary's). The base is
known by a hash of its weights and columns: an adapter of another one is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.errors import ModelFileError
from onetrunk.nn import lora
from onetrunk.storage import atomic
from onetrunk.storage.header import tensor_shapes
from onetrunk.storage.strict_json import read_json, write_json
from onetrunk.storage.tensors import load_tensors, save_tensors

CONFIG, WEIGHTS, COLUMNS, DESCRIPTION = (
    "adapter_config.json", "adapter_model.safetensors", "columns.safetensors", "onetrunk.json",
)  # fmt: skip
_PREFIX = "base_model.model.model."  # PEFT's, of what it wraps, of the language model's trunk


def _peft(name: str) -> str:
    """PEFT's name of what a map learnt; of a length it leaves `weight` out."""
    return f"{_PREFIX}{name}" + ("" if name.endswith(lora.LENGTH) else ".weight")


@dataclass
class Adapter:
    """`learnt` (as `lora.take` gives it) was merged into the trunk of the base whose digest it names."""

    config: lora.LoRAConfig
    learnt: dict[str, Tensor]
    base: Path
    digest: str


def base_digest(folder: Path) -> str:
    """Of a model folder's weights, trunk and columns, by its manifest."""
    entries = atomic.read_manifest(folder)
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "columns.safetensors", DESCRIPTION):
        digest.update(f"{name} {entries[name]['sha256']}\n".encode())
    return digest.hexdigest()


def write(adapter: Adapter, rest: dict[str, Tensor], description: dict[str, Any], staging: Path) -> None:
    """Puts the adapter in a new folder. `rest` is the model's tensors beside the trunk; the base's own are left out."""
    staging.mkdir()
    config, theirs = adapter.config, load_tensors(adapter.base / COLUMNS)
    changed = {k: v for k, v in rest.items() if k not in theirs or not torch.equal(v.cpu(), theirs[k])}
    targets = sorted({name.split(".")[-2] for name in adapter.learnt})
    write_json(
        staging / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": None,
            "r": config.rank,
            "lora_alpha": config.alpha,
            "lora_dropout": config.dropout,
            "use_dora": config.dora,
            "target_modules": targets,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
        },
    )
    save_tensors(staging / WEIGHTS, {_peft(name): tensor for name, tensor in adapter.learnt.items()})
    save_tensors(staging / COLUMNS, changed)
    write_json(staging / DESCRIPTION, {**description, "base": adapter.digest})


def read(folder: Path, base: Path) -> tuple[dict[str, Any], dict[str, Tensor], Adapter]:
    """The adapted model's description, its tensors beside the trunk as far as they are not the base's, and what its
    trunk learnt. Raises ModelFileError where the folder is no adapter of ours, or of another base."""
    if not (folder / CONFIG).exists() or not (folder / DESCRIPTION).exists():
        raise ModelFileError(f"{folder} is no adapter folder: expected {CONFIG}, {WEIGHTS}, {COLUMNS}, {DESCRIPTION}.")
    description, written = read_json(folder / DESCRIPTION), read_json(folder / CONFIG)
    wanted, digest = description.pop("base", None), base_digest(base)
    if wanted != digest:
        raise ModelFileError(
            f"{folder} belongs to another base: expected one with the digest {str(wanted)[:16]}…, found {digest[:16]}… "
            f"({base}). Name the model folder that it was trained on."
        )
    config = lora.LoRAConfig.parse(
        {"rank": written.get("r"), "alpha": written.get("lora_alpha"), "dropout": written.get("lora_dropout", 0.0),
         "dora": written.get("use_dora", False), "targets": written.get("target_modules")}, str(folder / CONFIG),
    )  # fmt: skip
    shapes = tensor_shapes(base / "model.safetensors")
    expected: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        path, _, kind = name.rpartition(".")
        if kind == "weight" and path.startswith("layers.") and path.rpartition(".")[2] in config.targets:
            expected[_peft(f"{path}.{lora.A}")] = (config.rank, shape[1])
            expected[_peft(f"{path}.{lora.B}")] = (shape[0], config.rank)
            if config.dora:
                expected[_peft(f"{path}.{lora.LENGTH}")] = (shape[0],)
    loaded = load_tensors(folder / WEIGHTS, expected)
    learnt = {name.removeprefix(_PREFIX).removesuffix(".weight"): tensor for name, tensor in loaded.items()}
    return description, load_tensors(folder / COLUMNS), Adapter(config, learnt, base, digest)
