"""Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901): how much the outcome falls without a part, or a column.

One pass, for every model: columns that are missing, and rows with fewer parts, are what the model learnt from.
"""

from __future__ import annotations

import numpy as np

from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method


class Occlusion(Method):
    def explain(self, game: Game) -> Attribution:
        owners, P = game.question.owners(), game.parts
        of_columns = owners[None] != np.arange(len(game.question.columns))[:, None]
        kept = np.concatenate([np.ones((1, P), bool), np.zeros((1, P), bool), of_columns, ~np.eye(P, dtype=bool)])
        scores = game.scores(kept)
        whole, nothing, rest = scores[0], scores[1], whole_minus(scores)
        C = len(of_columns)
        return attribution(game, "occlusion", rest[C:].T, whole, nothing, by_column=rest[:C].T, additive=False)


def whole_minus(scores: np.ndarray) -> np.ndarray:
    """What is lost against the first, of the third and all after it."""
    return scores[0] - scores[2:]


METHOD = Occlusion
