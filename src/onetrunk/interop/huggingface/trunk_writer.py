"""The trunk of a checkpoint of any family: whether it holds ours, and ours by its names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.content import Role
from onetrunk.core.module import ColumnModule
from onetrunk.inference.model_folder import Model
from onetrunk.interop.huggingface.families import FAMILIES
from onetrunk.interop.huggingface.family import Family
from onetrunk.interop.huggingface.settings import ACTIVATIONS, GATES, Settings, biased
from onetrunk.nn.transformer import Transformer, TransformerConfig

_ANYWHERE = {"kind", "dropout"}  # settings of a trunk that no checkpoint says, and no answer depends on


@dataclass(frozen=True)
class Written:
    """A checkpoint to be: its family, configuration and tensors."""

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]


def unfit(family: Family, trunk: Transformer) -> str | None:
    """Why the family does not hold this trunk, if it does not."""
    c = trunk.config
    usual = TransformerConfig().model_dump() | {"activation": c.activation}
    known = GATES if family.gated else ACTIVATIONS
    free = {*_ANYWHERE, *family.settings} - {"activation"}
    if family.rope is not None:
        free |= {"rope_theta", "rope_scaling", "max_positions"}
        free |= {"rope_local_theta"} if family.rope.local_theta is not None or c.rope_layers is None else set()
        free |= {"rope_layers"} if family.rope.layers is not None else set()
    elif c.positions != "rotary":
        free |= {"rope_theta", "rope_local_theta"}
    if c.activation not in known.values():
        return needs("activation", c.activation, next(iter(known.values())))
    for key, value in {**usual, **family.fixed}.items():
        setting = getattr(c, key)
        if key not in (*free, "activation", "bias", "kv_heads", "head_width", "mlp_width") and setting != value:
            return needs(key, setting, value)
    if "kv_heads" not in family.settings and c.kv_heads not in (None, c.heads):
        return needs("kv_heads", c.kv_heads, c.heads)
    if "head_width" not in family.settings and c.head_width not in (None, c.width // c.heads):
        return needs("head_width", c.head_width, c.width // c.heads)
    return _unfit_biases(family, trunk)


def needs(key: str, setting: Any, value: Any) -> str:
    """Says what a trunk has, and what it would have to have."""
    return f"This trunk has {key} {setting!r}; the Hugging Face format that is written needs {value!r}."


def _unfit_biases(family: Family, trunk: Transformer) -> str | None:
    """Each map's bias must have a place; and where there must be one and there is none, there is nothing to write."""
    state = dict(trunk.blocks[0].named_parameters())
    for part in family.layer_names:
        says, there = family.biases.get(part, family.biased), f"{part}.bias" in state
        if isinstance(says, str) or says == there or "norm" in part:
            continue
        zero = there and all(not block.get_parameter(f"{part}.bias").any() for block in trunk.blocks)
        if not zero:
            return needs("bias", trunk.config.bias, "none" if there else "qkv")
    return None


class TrunkWriter:
    """What is common to the checkpoints of texts and of pictures: a column in a role, and the trunk."""

    def __init__(self, kind: str, model: Model, column: str, role: Role, trunk: Transformer) -> None:
        module: ColumnModule[Any] = model.module(column)
        self.kind, self.family, self.config = kind, FAMILIES[kind], trunk.config
        self.marker = model.network.marker(column)[role].detach().cpu()
        self.trunk = {name: tensor.detach().cpu() for name, tensor in trunk.state_dict().items()}
        self.module = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
        attention = trunk.blocks[0].self_attn
        self.sizes = {"width": trunk.config.width, "layers": trunk.config.layers, "heads": trunk.config.heads,
                      "kv_heads": attention.kv_heads, "head_width": attention.head_width,
                      "mlp_width": trunk.blocks[0].mlp.up_proj.out_features, "eps": trunk.config.eps,
                      "entry_width": trunk.config.entry_width}  # fmt: skip

    def activation(self) -> str:
        """The trunk's, by their name."""
        known = GATES if self.family.gated else ACTIVATIONS
        return next(theirs for theirs, ours in known.items() if ours == self.config.activation)

    def biases(self) -> dict[str, bool]:
        """Settings that say which maps have a bias."""
        said = {says for says in self.family.biases.values() if isinstance(says, str)}
        return {says: any(self.any_bias(part) for part, each in self.family.biases.items() if each == says)
                for says in said}  # fmt: skip

    def layer(self, i: int, settings: Settings) -> dict[str, Tensor]:
        family = self.family
        out: dict[str, Tensor] = {}
        for theirs in dict.fromkeys(family.layer_names.values()):
            parts = [part for part, name in family.layer_names.items() if name == theirs]
            for kind in ("weight", "bias"):
                each = [self._part(i, part, kind, settings) for part in parts]
                there = [tensor for tensor in each if tensor is not None]
                if there:
                    whole = torch.cat(there)
                    name = f"{family.prefixes[0]}{family.layer.format(i)}{theirs}.{kind}"
                    out[name] = whole.T if family.transposed and whole.ndim == 2 else whole
        for part, scale in family.scales.items():
            name = f"{family.prefixes[0]}{family.layer.format(i)}{scale}"
            out[name] = torch.ones(self.trunk[f"layers.{i}.{part}.weight"].shape[0])
        return out

    def _part(self, i: int, part: str, kind: str, settings: Settings) -> Tensor | None:
        """One of ours in layer i, or nothing where they have none: a bias that is not kept, or the norm of a first
        layer that has none."""
        name = f"layers.{i * self._layers_a_group()}.{part}.{kind}"
        if kind == "bias" and not biased(self.family, settings, part):
            return None
        if name in self.trunk:
            return self.norm(part, self.trunk[name])
        weight = self.trunk.get(name.replace(".bias", ".weight"))
        return None if weight is None or kind == "weight" else torch.zeros(weight.shape[0])

    def norm(self, ours: str, tensor: Tensor) -> Tensor:
        return tensor - 1 if self.family.norms_from_one and "norm" in ours else tensor

    def groups(self) -> int:
        """How many groups of layers are alike, where they share their tensors; 0 where each has its own."""
        if not self.family.groups:
            return 0
        layers = self.config.layers
        for groups in (n for n in range(1, layers + 1) if layers % n == 0):
            size = layers // groups
            alike = (
                torch.equal(tensor, self.trunk[f"layers.{int(i) // size * size}.{rest}"])
                for name, tensor in self.trunk.items() if name.startswith("layers.")
                for _, i, rest in [name.split(".", 2)]
            )  # fmt: skip
            if all(alike):
                return groups
        return layers

    def _layers_a_group(self) -> int:
        return self.config.layers // (self.groups() or self.config.layers)

    def any_bias(self, part: str) -> bool:
        """Has it any, here?"""
        names = [part, f"{part}.bias", part.removeprefix("trunk.") + ".bias"]
        names += [f"layers.{i}.{part}.bias" for i in range(self.config.layers)]
        return any(bool(state[name].any()) for state in (self.trunk, self.module) for name in names if name in state)
