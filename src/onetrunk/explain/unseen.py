"""What gradients do not see of an answer, in words."""

from __future__ import annotations

import numpy as np

from onetrunk.explain.game import Game


def unseen_note(game: Game) -> list[str]:
    """One sentence where a wide read-out takes part."""
    unseen = game.unseen_by_gradients()
    if unseen is None:
        return []
    return [
        f"Gradients pass through the trunk alone. The wide read-out (linear and trees) beside it moves the outcome by "
        f"{float(np.sum(unseen)):+.3g} more, which these values do not hold: occlusion and shapley include it."
    ]
