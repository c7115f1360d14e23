"""The learning rate's factor: a pure function of the step, so that a resumed run needs no state."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def factor(step: int, steps: int, warmup: float, schedule: Schedule) -> float:
    """What multiplies the learning rate of update `step` (0-based) of `steps`: in (0, 1].

    Rises linearly over the first `warmup` (a fraction of all steps), then stays, or falls to 0: linearly, or
    as half a cosine (Loshchilov and Hutter, arXiv 1608.03983).
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    progress = (step - rising) / (steps - rising)
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
