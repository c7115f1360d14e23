"""Integrated gradients (arXiv 1703.01365): gradients along the straight way from a row with all its parts hidden.

Hidden parts are embedded, not zero: a zero is no input that norms were made for, and completeness breaks there.
Gauss and Legendre's points need fewer steps than equal ones.
"""

from __future__ import annotations

import numpy as np

from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.explanation.unseen import unseen_note


class IntegratedGradients(Method):
    def explain(self, game: Game) -> Attribution:
        points, weights = np.polynomial.legendre.leggauss(self.settings.steps)
        shares = np.concatenate([(points + 1) / 2, [1.0, 0.0]])
        found = game.slopes(shares, apart=True)
        by_part = np.einsum("k,kjp->jp", weights / 2, found.by_part[:-2])
        whole, nothing = found.scores[-2:]
        return attribution(game, "integrated_gradients", by_part, whole, nothing, notes=unseen_note(game))


METHOD = IntegratedGradients
