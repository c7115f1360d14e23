"""Integrated gradients (arXiv 1703.01365): gradients along the straight way from a row that says nothing to the row.

Where a column's values lie on a line every value says something: there the way begins at values that training had,
spread over all of them, and the mean is taken (expected gradients, arXiv 1906.10670). A model that is sure changes its
answer on a short piece of the way: points stand where the outcome changes (arXiv 2302.11107), which a first pass finds.
"""

from __future__ import annotations

import numpy as np

from onetrunk.explanation.attribution import Attribution, attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.explanation.unseen import unseen_note
from onetrunk.explanation.way import rows_of_nothing

# Where the outcome is looked at: close together at the beginning, for a norm makes much of little.
LOOKS = np.unique(np.concatenate([[0.0], np.geomspace(1e-4, 1 / 16, 16), np.linspace(1 / 16, 1, 16)]))
_EVEN = 0.25  # share of the points that are spread evenly: values of parts can change while the outcome does not


class IntegratedGradients(Method):
    def explain(self, game: Game) -> Attribution:
        ways = game.ways()
        looks = game.along(ways, np.tile(LOOKS, (rows_of_nothing(ways), 1)))
        pairs = [points_of_change(each, self.settings.steps) for each in looks]
        points, weights = (np.stack(each) for each in zip(*pairs, strict=True))
        found = game.slopes(ways, points, apart=True)
        by_part = np.einsum("bs,bsjp->jp", weights / len(weights), found.by_part)
        nothing, whole = looks[:, 0].mean(0), looks[:, -1].mean(0)
        return attribution(game, "integrated_gradients", by_part, whole, nothing, notes=unseen_note(game))


def points_of_change(looks: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the way, and how much each counts [steps], 1 together, where outcomes are [looks, K] at `LOOKS`: Gauss
    and Legendre's points of how much the outcomes have changed so far."""
    from scipy.interpolate import PchipInterpolator

    changes, lengths = np.abs(np.diff(looks, axis=0)).sum(1), np.diff(LOOKS)
    total = changes.sum()
    changed = _EVEN * lengths + (1 - _EVEN) * changes / total if total > 0 else lengths
    share = PchipInterpolator(np.concatenate([[0.0], np.cumsum(changed)]), LOOKS)
    points, weights = np.polynomial.legendre.leggauss(steps)
    at = (points + 1) / 2 * changed.sum()
    weights = weights * share.derivative()(at)
    return share(at), weights / weights.sum()


METHOD = IntegratedGradients
