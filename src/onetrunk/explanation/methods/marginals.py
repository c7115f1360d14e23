"""What a part adds first and last: the mean of what it adds to nothing, and of what is lost when it is left out.

These are the two ends of Shapley's mean over all orders. It is exact where parts act alone and in pairs: a pair's worth
is gained whole with the last of the two, and not at all with the first. So parts that say the same share their worth,
where occlusion gives none to either; and it takes one pass, where Shapley values ask about 2^n rows.
"""

from __future__ import annotations

import numpy as np

from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method


class Marginals(Method):
    def explain(self, game: Game) -> Attribution:
        question, P = game.question, game.parts
        members = np.concatenate([question.owners()[None] == np.arange(len(question.columns))[:, None], np.eye(P) > 0])
        ends = np.stack([np.ones(P, dtype=bool), np.zeros(P, dtype=bool)])
        scores = game.scores(np.concatenate([ends, members, ~members]))
        whole, nothing = scores[:2]
        alone, without = np.split(scores[2:], 2)
        values = first_and_last(whole, nothing, alone, without)
        C = len(question.columns)
        return attribution(game, "marginals", values[C:].T, whole, nothing, by_column=values[:C].T, additive=False)


def first_and_last(whole: np.ndarray, nothing: np.ndarray, alone: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Values [n, K] of outcomes of all and of none [K], of each player alone, and of all others [n, K]."""
    return ((alone - nothing) + (whole - without)) / 2


METHOD = Marginals
