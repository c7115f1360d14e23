"""Shapley values (Shapley 1953; of models: arXiv 1705.07874), exact: every coalition is asked, all in one batch.

Of whole columns where there are several, else of the parts of the one. A missing column is what the model learnt from,
so that coalitions are rows as it knows them.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from onetrunk.core.errors import UsageError
from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method

MOST_PLAYERS = 12  # 4,096 coalitions


class Shapley(Method):
    def explain(self, game: Game) -> Attribution:
        of_columns = len(game.question.columns) > 1
        owners = game.question.owners() if of_columns else np.arange(game.parts)
        count = int(owners.max()) + 1
        if count > MOST_PLAYERS:
            what = "columns" if of_columns else game.question.columns[0].parts.nouns
            raise UsageError(
                f"Exact Shapley values ask about 2^n coalitions: of at most {MOST_PLAYERS} players, found {count:,} "
                f"{what}. kernel_shap estimates them."
            )
        coalitions = every_coalition(count)
        scores = game.scores(coalitions[:, owners])
        values = shapley_values(scores)
        whole, nothing = scores[-1], scores[0]
        by_part, by_column = (None, values) if of_columns else (values, None)
        return attribution(game, "shapley", by_part, whole, nothing, by_column=by_column)


def every_coalition(count: int) -> np.ndarray:
    """bool [2^count, count]: coalition i holds the players of its bits."""
    return (np.arange(1 << count)[:, None] >> np.arange(count) & 1).astype(bool)


def shapley_values(scores: np.ndarray) -> np.ndarray:
    """Of the outcomes of all coalitions [2^n, K], in the order of `every_coalition`: float64 [K, n]."""
    n = int(scores.shape[0]).bit_length() - 1
    index, sizes = np.arange(1 << n), every_coalition(n).sum(1)
    weight = np.array([factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)])
    values = np.zeros((scores.shape[1], n))
    for i in range(n):
        without = index[index >> i & 1 == 0]
        gained = scores[without | 1 << i] - scores[without]
        values[:, i] = weight[sizes[without]] @ gained
    return values


METHOD = Shapley
