"""Low-rank adaptation (LoRA, arXiv 2106.09685): a frozen linear map learns a change of low rank beside its weight.

With `dora` (arXiv 2402.09353) the sum gives each output's direction, and its length is learnt apart. With `bits: 4` the
frozen weights are held in 4 bits while the changes are learnt (QLoRA, arXiv 2305.14314).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError
from onetrunk.nn import nf4
from onetrunk.nn.dropout import dropout

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
A, B, LENGTH = "lora_A", "lora_B", "lora_magnitude_vector"


class LoRAConfig(Config):
    rank: int = Field(8, ge=1, le=1024)
    alpha: float = Field(16.0, gt=0)  # the change is scaled by alpha / rank
    dropout: float = Field(0.0, ge=0, lt=1)  # of what the change sees
    dora: bool = False  # also learns the length of each output's weights
    bits: Literal[4, 32] = 32  # of a frozen weight while the changes are learnt: 4 take an eighth of the memory
    targets: list[Target] = Field(default_factory=lambda: list(get_args(Target)), min_length=1)  # of a block's maps

    @model_validator(mode="after")
    def _known_lengths(self) -> LoRAConfig:
        if self.dora and self.bits == 4:
            raise ValueError("dora learns from the lengths of whole weights, which bits: 4 does not keep: one of them")
        return self

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class LoRALinear(nn.Linear):
    """x [..., in] to [..., out]: W x + scale B A x. W is the map's own; A [rank, in] and B [out, rank] are learnt.

    With a length m [out], learnt too: m / |W + scale B A| times that, without the bias; no gradient through the norm.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.scale, self.dropout = config.scale, config.dropout
        self.lora_A = nn.Parameter(base.weight.new_empty(config.rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.lora_magnitude_vector = nn.Parameter(base.weight.detach().norm(dim=1)) if config.dora else None
        if config.bits == 4:
            self.register_parameter("weight", None)
            for name, tensor in zip(("packed", "absmax"), nf4.pack(base.weight), strict=True):
                self.register_buffer(name, tensor)

    def learnt(self) -> dict[str, Tensor]:
        return {name: p for name in (A, B, LENGTH) if (p := getattr(self, name)) is not None}

    def forward(self, x: Tensor) -> Tensor:
        seen = dropout(x, self.dropout, self.training)
        change = self.scale * F.linear(F.linear(seen, self.lora_A), self.lora_B)
        if self.weight is None:
            return nf4.linear(x, self.packed, self.absmax, self.bias, (self.out_features, self.in_features)) + change
        if self.lora_magnitude_vector is None:
            return super().forward(x) + change
        with torch.no_grad():
            norm = (self.weight + self.scale * self.lora_B @ self.lora_A).norm(dim=1)
        share = self.lora_magnitude_vector / norm
        if self.training and self.dropout:  # what dropout hides adds nothing to the base's own output (as in PEFT)
            return super().forward(x) + (share - 1) * F.linear(seen, self.weight) + share * change
        out = share * (F.linear(x, self.weight) + change)
        return out if self.bias is None else out + self.bias


def add(trunk: nn.Module, config: LoRAConfig) -> None:
    """Gives the blocks' maps that `targets` name a change that is zero as yet. UsageError where there are none."""
    linears = [(owner, name) for owner, name, _ in _linears(trunk) if name in config.targets]
    if not linears:
        raise UsageError(f"This trunk has none of the maps that LoRA was told to change: {', '.join(config.targets)}.")
    for owner, name in linears:
        setattr(owner, name, LoRALinear(getattr(owner, name), config))


def take(trunk: nn.Module, whole: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Adds every change to its weight and leaves plain maps; returns what was learnt, `layers.0.mlp.up_proj.lora_A`.

    `whole` has the trunk's weights, where they are held in 4 bits.
    """
    learnt: dict[str, Tensor] = {}
    for owner, name, path in list(_linears(trunk)):
        map_ = getattr(owner, name)
        if isinstance(map_, LoRALinear):
            own = {f"{path}.{name}": p.detach().clone() for name, p in map_.learnt().items()}
            learnt |= own
            plain = nn.Linear(map_.in_features, map_.out_features, bias=map_.bias is not None, device="meta")
            plain.weight, plain.bias = map_.weight, map_.bias
            if map_.weight is None:
                plain.weight = nn.Parameter(whole[f"{path}.weight"].to(map_.packed.device))
            setattr(owner, name, plain)
            merge(trunk, own, map_.scale)
    return learnt


@torch.no_grad()
def merge(trunk: nn.Module, learnt: Mapping[str, Tensor], scale: float) -> None:
    """Adds changes to the weights. They must fit: names and shapes are the caller's to check."""
    for path in {name.rpartition(".")[0] for name in learnt}:
        weight = trunk.get_parameter(f"{path}.weight")
        weight.add_((scale * learnt[f"{path}.{B}"] @ learnt[f"{path}.{A}"]).to(weight))
        if (length := learnt.get(f"{path}.{LENGTH}")) is not None:
            weight.mul_((length / weight.norm(dim=1))[:, None])


def _linears(trunk: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Linear maps inside the blocks: their owner, name, and path from the trunk."""
    for prefix, owner in trunk.named_modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.Linear) and prefix.startswith("layers."):
                yield owner, name, f"{prefix}.{name}"
