"""KernelSHAP (arXiv 1705.07874): Shapley values of parts by weighted least squares on coalitions, drawn in pairs with
their complements (arXiv 2012.01536); with all coalitions they are exact."""

from __future__ import annotations

from math import comb

import numpy as np

from onetrunk.core import rng
from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.explanation.methods.shapley import every_coalition


class KernelShap(Method):
    def explain(self, game: Game) -> Attribution:
        kept, weight = coalitions(game.parts, self.settings.samples, game.question.key + self.settings.seed)
        ends = np.stack([np.ones(game.parts, dtype=bool), np.zeros(game.parts, dtype=bool)])
        scores = game.scores(np.concatenate([ends, kept]))
        whole, nothing = scores[:2]
        values = solved(kept, weight, scores[2:] - nothing, whole - nothing)
        return attribution(game, "kernel_shap", values, whole, nothing)


def coalitions(count: int, samples: int, key: int) -> tuple[np.ndarray, np.ndarray]:
    """bool [k, count], neither empty nor whole, and how much each counts [k]: all with the kernel's weight where there
    are no more than `samples`, else drawn by it."""
    if count == 1:
        return np.zeros((0, 1), dtype=bool), np.zeros(0)
    if count < 31 and (1 << count) - 2 <= samples:
        kept = every_coalition(count)[1:-1]
        sizes = kept.sum(1)
        kernel = [(count - 1) / (comb(count, int(s)) * s * (count - s)) for s in sizes]
        return kept, np.array(kernel)
    sizes = np.arange(1, count)
    share = 1 / (sizes * (count - sizes))
    keys = rng.mix(np.arange(max(1, samples // 2)), key, "coalitions")
    chosen = np.searchsorted(np.cumsum(share / share.sum()), rng.uniform(rng.mix(keys, "size")), side="right")
    size = sizes[np.minimum(chosen, count - 2)]
    rank = rng.uniform(rng.mix(keys, "members"), count).argsort(1).argsort(1)
    drawn = rank < size[:, None]
    kept = np.concatenate([drawn, ~drawn])
    return kept, np.ones(len(kept))


def solved(kept: np.ndarray, weight: np.ndarray, gained: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Values float64 [K, P] that add up to `whole` [K] and are nearest, by these weights, to what coalitions bool
    [k, P] gained [k, K]."""
    if not len(kept):
        return whole[:, None]
    z = kept.astype(np.float64)
    A, b = (z.T * weight) @ z, (z.T * weight) @ gained
    inverse = np.linalg.pinv(A, hermitian=True)
    ones = np.ones(len(A))
    free = inverse @ b
    lean = inverse @ ones
    return (free - lean[:, None] * ((ones @ free - whole) / (ones @ lean))).T


METHOD = KernelShap
