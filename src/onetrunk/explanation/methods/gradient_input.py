"""Gradient times input (arXiv 1605.01713): the gradient at the row, times the way from a row that says nothing.

One step of integrated gradients: exact for a linear model.
"""

from __future__ import annotations

from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.explanation.unseen import unseen_note
from onetrunk.explanation.way import both_ends


class GradientInput(Method):
    def explain(self, game: Game) -> Attribution:
        ways = game.ways()
        found = game.slopes(ways, both_ends(ways), apart=True)
        nothing, whole = found.scores.mean(0)
        by_part = found.by_part[:, 1].mean(0)
        return attribution(game, "gradient_input", by_part, whole, nothing, additive=False, notes=unseen_note(game))


METHOD = GradientInput
