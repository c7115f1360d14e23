"""Gradient times input (arXiv 1605.01713): the gradient at the row, times the way from the row with all parts hidden.

One step of integrated gradients: exact for a linear model.
"""

from __future__ import annotations

import numpy as np

from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.explanation.unseen import unseen_note


class GradientInput(Method):
    def explain(self, game: Game) -> Attribution:
        found = game.slopes(np.array([1.0, 0.0]), apart=True)
        whole, nothing = found.scores
        return attribution(
            game, "gradient_input", found.by_part[0], whole, nothing, additive=False, notes=unseen_note(game)
        )


METHOD = GradientInput
