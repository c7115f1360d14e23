"""AttnLRP (arXiv 2402.05602): relevance handed back through the trunk by rules that know attention, as gradient times
input of a model whose gradients are changed.

Norms and activations hand relevance on as it is (identity rule); what is multiplied shares it (uniform rule): a half
each to the two factors of a gate, a half to values and a half to attention, of which queries and keys have a half each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from onetrunk.core.errors import UsageError
from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.explanation.unseen import unseen_note
from onetrunk.explanation.way import both_ends
from onetrunk.nn.block import MLP, GatedMLP
from onetrunk.nn.transformer import Transformer

_TINY = 1e-10


class AttnLRP(Method):
    def explain(self, game: Game) -> Attribution:
        trunk = game.network.trunk
        if not isinstance(trunk, Transformer):
            raise UsageError("attn_lrp hands relevance back through attention, and this model's trunk has none.")
        with relevance_rules(trunk):
            ways = game.ways(of_values=False)  # the rules are the trunk's, which gets embeddings
            found = game.slopes(ways, both_ends(ways), of_input=True, apart=True)
        nothing, whole = found.scores.mean(0)
        by_part = found.by_part[:, 1].mean(0)
        return attribution(game, "attn_lrp", by_part, whole, nothing, additive=False, notes=unseen_note(game))


@contextmanager
def relevance_rules(trunk: nn.Module) -> Iterator[None]:
    """Inside, the trunk answers as before, and its gradients are those of the rules."""
    handles = []
    for module in trunk.modules():
        if isinstance(module, nn.RMSNorm | nn.LayerNorm):
            handles.append(module.register_forward_hook(_norm))
        elif isinstance(module, GatedMLP):
            handles.append(module.register_forward_hook(_gated))
        elif isinstance(module, MLP):
            handles.append(module.register_forward_hook(_plain))
    if isinstance(trunk, Transformer):
        for block in trunk.blocks:
            attention = block.self_attn
            for part, share in ((attention.q_norm, 0.25), (attention.k_norm, 0.25), (attention.v_proj, 0.5)):
                handles.append(part.register_forward_hook(_sharing(share)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _norm(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """What it multiplies by is no cause."""
    x = args[0]
    centred = x - x.mean(-1, keepdim=True) if isinstance(module, nn.LayerNorm) else x
    eps = getattr(module, "eps", None) or torch.finfo(x.dtype).eps
    scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps).detach()
    y = centred * scale
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(output.dtype)


def _gated(mlp: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    gate, up = mlp.gate_proj(args[0]), mlp.up_proj(args[0])
    return mlp.down_proj(_shared(_as_it_is(mlp, gate) * up, 0.5))


def _plain(mlp: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return mlp.down_proj(_as_it_is(mlp, mlp.up_proj(args[0])))


def _as_it_is(mlp: Any, x: Tensor) -> Tensor:
    """An activation, as a multiple of what enters it."""
    return x * (mlp.activate(x) / (x + _TINY)).detach()


def _sharing(share: float) -> Any:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return _shared(output, share)

    return hook


def _shared(x: Tensor, share: float) -> Tensor:
    """x, of whose relevance a share is handed back."""
    return share * x + (1 - share) * x.detach()


METHOD = AttnLRP
