"""Attention roll-out (arXiv 2005.00928): how much attention reaches what is read from each part, through all blocks.

It has no sign, and says where the model looks, not what for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.errors import UsageError
from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.nn.transformer import Transformer


class AttentionRollout(Method):
    def explain(self, game: Game) -> Attribution:
        trunk = game.network.trunk
        if not isinstance(trunk, Transformer):
            raise UsageError("attention_rollout follows attention, and this model's trunk has none.")
        P = game.parts
        whole, nothing = game.scores(np.stack([np.ones(P, dtype=bool), np.zeros(P, dtype=bool)]))
        weights: list[Tensor] = []

        def watch(attention: Any, args: tuple[Any, ...]) -> None:
            weights.append(attention.weights(*args)[0].mean(0).double())

        handles = [block.self_attn.register_forward_pre_hook(watch) for block in trunk.blocks]
        try:
            hidden = game.hidden([])
        finally:
            for handle in handles:
                handle.remove()
        batch = hidden.batch
        reach = rolled_out(weights)
        read = game.read(batch).flat_r
        rows = reach[read]
        if game.module.pooled:  # the read-out sees the mean of what is given as well
            given = (batch.layout.branch_BT[0] == 0) & (batch.layout.doc_BT[0] >= 0)
            rows = (rows + reach[given].mean(0)) / 2
        if not game.question.apart:
            rows = rows.mean(0, keepdim=True)
        by_part = np.zeros((len(rows), P))
        for each in game.question.columns:
            if (each.parts.position >= 0).all():
                at = batch.embeds[each.column].flat_n[torch.from_numpy(each.parts.position).to(rows.device)]
                by_part[:, each.own] = rows[:, at].cpu().numpy()
        return attribution(
            game, "attention_rollout", by_part, whole, nothing, additive=False,
            notes=["Attention has no sign: these are shares of where the model looks."],
        )  # fmt: skip


def rolled_out(weights: list[Tensor]) -> Tensor:
    """Attention of blocks [T, T] (rows look at columns), half of each passed by, one after the other: [T, T]."""
    reach = torch.eye(len(weights[0]), dtype=weights[0].dtype, device=weights[0].device)
    for each in weights:
        reach = (each + torch.eye(len(each), dtype=each.dtype, device=each.device)) / 2 @ reach
    return reach


METHOD = AttentionRollout
