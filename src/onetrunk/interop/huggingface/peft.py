"""Adapters of PEFT on a checkpoint: small changes of its maps (LoRA, DoRA), and what was trained whole beside them.

They are merged into the checkpoint's tensors, under the checkpoint's own names, before ours are made of these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.errors import ModelFileError
from onetrunk.interop.huggingface.checkpoint import Change
from onetrunk.interop.huggingface.unsupported import refuse_unknown, setting_names
from onetrunk.storage.strict_json import read_json
from onetrunk.storage.tensors import load_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_WRAPPED = "base_model.model."
_KNOWN = setting_names(
    """
    peft_type task_type base_model_name_or_path revision inference_mode auto_mapping peft_version target_modules
    exclude_modules lora_dropout init_lora_weights layers_pattern layers_to_transform loftq_config eva_config
    corda_config megatron_core bias modules_to_save r lora_alpha use_rslora use_dora fan_in_fan_out rank_pattern
    alpha_pattern runtime_config ensure_weight_tying qalora_group_size
    """
)
_PARTS = r"(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.weight)?"


def is_adapter(folder: Path) -> bool:
    """Is it an adapter of PEFT, and none that this package trained on a model folder?"""
    return (folder / CONFIG).exists() and not (folder / "onetrunk.json").exists()


def read_change(folder: Path) -> Change:
    """What the adapter makes of a checkpoint's tensors. Raises ModelFileError for another kind of adapter, for what it
    says and nothing here honours, and, when it is used, where it does not fit the checkpoint."""
    where, config = folder / CONFIG, read_json(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise ModelFileError(f"{where} is of the kind {config.get('peft_type')!r}; only LORA can be read.")
    refuse_unknown(where, config, _KNOWN, "its changes do")
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in config.get(key) or {}:
            if not re.fullmatch(r"[\w.]+", pattern):
                raise ModelFileError(f"{where} says {key}: {pattern!r}; only whole names of modules can be read.")
    if not (folder / WEIGHTS).exists():
        raise ModelFileError(f"{folder} has no {WEIGHTS}: save the adapter as safetensors (save_pretrained).")
    adapter = _Adapter(folder, config, load_tensors(folder / WEIGHTS))
    return adapter.applied


@dataclass(frozen=True)
class _Adapter:
    folder: Path
    config: Mapping[str, Any]
    tensors: dict[str, Tensor]

    def applied(self, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
        changes: dict[str, dict[str, Tensor]] = {}
        out = dict(theirs)
        for name, tensor in self.tensors.items():
            path = name.removeprefix(_WRAPPED)
            part = re.fullmatch(rf"(.+)\.{_PARTS}", path)
            if part is None:  # trained whole
                path = path.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
                place = self._place(path.replace(".modules_to_save.", "."), theirs)
                self._check(name, tensor, theirs[place])
                out[place] = tensor.float()
            else:
                kind = part[2].removeprefix("lora_").removeprefix("embedding_")
                changes.setdefault(part[1], {})[kind] = tensor.float()
        for path, parts in changes.items():
            place = self._place(f"{path}.weight", theirs)
            out[place] = self._merged(path, out[place], parts)
        return out

    def _merged(self, path: str, weight: Tensor, parts: dict[str, Tensor]) -> Tensor:
        if not {"A", "B"} <= parts.keys():
            raise ModelFileError(f"{self.folder}: the change of {path!r} lacks lora_A or lora_B.")
        rank = parts["A"].shape[0]
        alpha = self._of(path, "alpha_pattern", self.config.get("lora_alpha", 8))
        scale = alpha / (rank**0.5 if self.config.get("use_rslora") else rank)
        change = scale * (parts["B"] @ parts["A"])
        # An embedding's change, and that of a matrix kept as [in, out], lies the other way.
        turned = change.shape != weight.shape or bool(self.config.get("fan_in_fan_out"))
        change = change.T if turned else change
        self._check(path, change, weight)
        merged = weight + change
        if (lengths := parts.get("magnitude_vector")) is None:
            return merged
        across = 0 if turned else 1
        size = torch.linalg.norm(merged, dim=across, keepdim=True)
        return merged * (lengths.reshape(size.shape) / size)

    def _of(self, path: str, key: str, usual: Any) -> float:
        named = self.config.get(key) or {}
        return float(next((v for k, v in named.items() if path == k or path.endswith(f".{k}")), usual))

    def _place(self, path: str, theirs: Mapping[str, Tensor]) -> str:
        """The checkpoint's name of what the adapter calls so: one of the two may have a prefix more."""
        matches = [name for name in theirs if name == path or path.endswith(f".{name}") or name.endswith(f".{path}")]
        if len(matches) != 1:
            raise ModelFileError(
                f"{self.folder} changes {path!r}, which {'several tensors' if matches else 'no tensor'} of the base "
                "could be, or which is not read here. It belongs to another base, or changes what is left out."
            )
        return matches[0]

    def _check(self, name: str, tensor: Tensor, theirs: Tensor) -> None:
        if tensor.shape != theirs.shape:
            raise ModelFileError(
                f"{self.folder}: the change of {name!r} has the shape {list(tensor.shape)}, the base's tensor "
                f"{list(theirs.shape)}. It belongs to another base."
            )
