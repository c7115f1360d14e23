"""LIME (arXiv 1602.04938): a linear model of the outcome on rows without some of their parts; near ones count most."""

from __future__ import annotations

import numpy as np

from onetrunk.core import rng
from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method

_WIDTH = 0.25  # of the kernel, in cosine distance, as LIME has it of pictures
_RIDGE = 1e-3  # of the mean weight


class Lime(Method):
    def explain(self, game: Game) -> Attribution:
        P, key = game.parts, game.question.key + self.settings.seed
        keys = rng.mix(np.arange(self.settings.samples), key, "lime")
        size = rng.integers(rng.mix(keys, "size"), P) + 1  # how many are left out
        rank = rng.uniform(rng.mix(keys, "members"), P).argsort(1).argsort(1)
        ends = np.stack([np.ones(P, dtype=bool), np.zeros(P, dtype=bool)])
        kept = np.concatenate([ends, rank >= size[:, None]])
        scores = game.scores(kept)
        values = local_weights(np.delete(kept, 1, 0), np.delete(scores, 1, 0))
        return attribution(game, "lime", values, scores[0], scores[1], additive=False)


def local_weights(kept: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The slopes [K, P] of a ridge regression of outcomes [k, K] on what is kept, bool [k, P], around all of it."""
    z = kept.astype(np.float64)
    distance = 1 - np.sqrt(z.mean(1))  # cosine's, of ones and zeros to ones
    w = np.exp(-np.square(distance / _WIDTH))
    middle, level = np.average(z, axis=0, weights=w), np.average(scores, axis=0, weights=w)
    z, y = z - middle, scores - level
    A = (z.T * w) @ z + _RIDGE * w.mean() * np.eye(z.shape[1])
    return np.linalg.solve(A, (z.T * w) @ y).T


METHOD = Lime
