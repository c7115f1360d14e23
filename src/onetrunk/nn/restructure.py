"""Changes the structure of a trained trunk and keeps what can be kept of what it learnt.

What is added starts as nothing (its outputs are zero; Net2Net, arXiv 1511.05641): the trunk computes what it did.
What is taken away weighs least: of units and heads the smallest, and of blocks evenly spaced ones (arXiv 1910.01108).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onetrunk.core.errors import UsageError
from onetrunk.nn.block import Block
from onetrunk.nn.transformer import Transformer
from onetrunk.nn.trunk import Trunk

CHANGEABLE = ("layers", "heads", "mlp_width", "max_positions", "dropout", "rope_theta", "rope_scaling")


@torch.no_grad()
def restructured(old: Trunk, changes: dict[str, Any]) -> Transformer:
    """A new trunk whose configuration is the old one's with `changes`. Raises UsageError for what cannot be changed."""
    if not isinstance(old, Transformer):
        raise UsageError(f"Only a transformer can be restructured; this trunk is a {old.config.kind}.")
    fixed = sorted(name for name in changes if name not in CHANGEABLE and changes[name] != getattr(old.config, name))
    if fixed:
        raise UsageError(f"trunk.{fixed[0]} is fixed in a trained trunk; what can change: {', '.join(CHANGEABLE)}.")
    head_width = old.blocks[0].self_attn.head_width
    config = old.config.updated(**{"head_width": head_width, **changes})
    if config.heads != old.config.heads and old.config.kv_heads is not None:
        raise UsageError("trunk.heads is fixed in a trunk whose heads share keys (trunk.kv_heads).")
    if config.heads != old.config.heads and old.config.qk_norm_whole:
        raise UsageError("trunk.heads is fixed in a trunk that norms the queries of all heads together.")
    if config.layers != old.config.layers and old.config.rope_layers is not None:
        raise UsageError("trunk.layers is fixed in a trunk whose layers rotate in different ways (trunk.rope_layers).")
    if config.layers > old.config.layers and config.norm_place == "post":
        raise UsageError("A trunk that norms after each block cannot grow: a new block would not leave it as it was.")
    new = Transformer(config)
    kept = torch.linspace(0, old.config.layers - 1, min(config.layers, old.config.layers)).round().long().tolist()
    for block, source in zip(new.blocks, kept, strict=False):
        _fill(block, old.blocks[source])
    for name in ("norm", "first_norm", "entry_proj"):
        if hasattr(old, name):
            getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    if config.positions == "learned":
        count = min(config.max_positions, old.config.max_positions)
        new.position_embedding[:count] = old.position_embedding[:count]
    return new


def _fill(new: Block, old: Block) -> None:
    a, b = new.self_attn, old.self_attn
    size = a.head_width
    heads = _largest(b.o_proj.weight.view(len(b.o_proj.weight), b.heads, size).square().sum((0, 2)), a.heads)
    within = (heads[:, None] * size + torch.arange(size)).flatten()
    units = _largest(old.mlp.down_proj.weight.square().sum(0), new.mlp.down_proj.weight.shape[1])
    for name, target in new.named_parameters():
        source: Tensor = old.get_parameter(name)
        if name.startswith("self_attn") and a.heads != b.heads:
            source = _chosen(source, name, within, inward="o_proj")
        elif name.startswith("mlp"):
            source = _chosen(source, name, units, inward="down_proj")
        if target.shape != source.shape and name.endswith((".o_proj.weight", ".down_proj.weight")):
            target.zero_()
        target[tuple(slice(n) for n in source.shape)] = source


def _largest(weight: Tensor, n: int) -> Tensor:
    """Which n to keep, in their order; all where there are no more."""
    return weight.topk(min(n, len(weight))).indices.sort().values


def _chosen(parameter: Tensor, name: str, index: Tensor, inward: str) -> Tensor:
    """The rows of what leads to units or heads, the columns of what leads back from them."""
    if f".{inward}." in name:
        return parameter[:, index] if parameter.ndim == 2 else parameter
    return parameter if ".q_norm" in name or ".k_norm" in name else parameter[index]
