"""Layer activations: how strong the trunk's state is at every part, as it enters and after each block."""

from __future__ import annotations

import torch

from onetrunk.explanation.attribution import Finding, finding
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method


class Activations(Method):
    attributes = False

    def explain(self, game: Game) -> Finding:
        layers = len(game.network.trunk.layers)
        blocks = [f"block.{i}" for i in range(layers)]
        placed = [each for each in game.question.columns if (each.parts.position >= 0).all()]
        hidden = game.hidden([*blocks, *(f"embedding.{each.column}" for each in placed)])
        states = [hidden.captured[name].flatten(0, 1) for name in blocks]
        rows: list[list[object]] = []
        for each in placed:
            position = torch.from_numpy(each.parts.position)
            enters = hidden.captured[f"embedding.{each.column}"][position]
            at = hidden.batch.embeds[each.column].flat_n[position]
            strengths = [_strength(enters), *(_strength(state[at]) for state in states)]
            for k, label in enumerate(each.parts.labels):
                rows.append([each.column, label, *(strength[k] for strength in strengths)])
        read = game.read(hidden.batch).flat_r
        rows.append([game.question.ask, "where the answer is read", None, *(_strength(s[read])[-1] for s in states)])
        header = ["column", "part", "as it enters", *(f"after block {i + 1}" for i in range(layers))]
        return finding(game, "activations", "The length of the state at each part", header, rows)


def _strength(states: torch.Tensor) -> list[float]:
    """Root mean squares, of states [n, D]."""
    return [round(x, 4) for x in states.float().square().mean(-1).sqrt().tolist()]


METHOD = Activations
