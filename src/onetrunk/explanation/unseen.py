"""What gradients do not see of an answer, in words."""

from __future__ import annotations

import numpy as np

from onetrunk.core.parts import Divided
from onetrunk.explanation.game import Game


def unseen_note(game: Game) -> list[str]:
    """One sentence where a wide read-out takes part."""
    unseen, notes = game.unseen_by_gradients(), []
    for each in game.question.columns:
        encoder = game.network.encoder(each.column)
        if each.asked and isinstance(encoder, Divided) and encoder.by_value:
            notes.append(
                f"Gradients pass through what is embedded. What a linear map makes of the history of {each.column} is "
                "not: occlusion and shapley include it."
            )
    if unseen is None:
        return notes
    return [
        *notes,
        f"Gradients pass through the trunk alone. The wide read-out (linear and trees) beside it moves the outcome by "
        f"{float(np.sum(unseen)):+.3g} more, which these values do not hold: occlusion and shapley include it.",
    ]
