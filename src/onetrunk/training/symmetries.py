"""Finds out which changes of given values leave the answers as they are: a mirrored picture may show the same thing, or
another letter; a grey square may hide little, or the one spot that matters. Training then changes values so
(augmentation)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onetrunk.core.encoder import Symmetric
from onetrunk.core.events import Decision, Listener
from onetrunk.data.store import Store
from onetrunk.inference.model_folder import Model, Task
from onetrunk.training.trials import mean_and_error

_SURE = 1.64  # standard errors
_FREE = 0.1  # of what hiding the whole column costs: a change that costs less is allowed


def decide_symmetries(
    model: Model, store: Store, task: Task, losses: Callable[[Store], np.ndarray], on_event: Listener
) -> None:
    """Decides on every change that nobody has decided on, by the losses float64 [rows] of a model that already answers,
    on validation rows (`store`). A change is allowed where it costs, in the mean and its noise, less than a tenth of
    what hiding the column costs: a model that hardly looks at the column could not tell."""
    for name in task.given:
        encoder, c = model.encoder(name), store.names.index(name)
        if not isinstance(encoder, Symmetric) or not encoder.undecided():
            continue
        plain, hidden = losses(store), store.index.copy()
        hidden[:, c] = -1
        worth = float(np.mean(losses(replace(store, index=hidden, wide={})) - plain))
        for change, word in encoder.undecided().items():
            contents = [*store.contents]
            contents[c] = encoder.changed(contents[c], change)
            cost, noise = mean_and_error(losses(replace(store, contents=contents, wide={})) - plain)
            allowed = cost + _SURE * noise < _FREE * worth
            encoder.decide(change, allowed)
            choice = f"{'' if allowed else 'no '}{word} values of {name} in training"
            reason = f"by what they cost a simple model on {len(plain):,} validation rows, and what hiding {name} costs"
            figures: dict[str, float | None] = {"cost": cost, "standard error": noise, "hidden": worth}
            on_event(Decision(choice, reason, figures))
