"""Are answers that are drawn (pictures, molecules) copies of training values? What people made is the measure: answers
that lie much nearer to training values than true values do that were not learnt (Carlini et al., arXiv 2301.13188)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onetrunk.core.errors import BadValueError
from onetrunk.evaluation.audit.record import Copies, Copy
from onetrunk.evaluation.intervals import wilson

MAX_ROWS = 200  # answers, and true values beside them
_FEWEST = 20
_EXAMPLES = 4

Nearest = Callable[[Sequence[Any], Sequence[Any]], tuple[np.ndarray, np.ndarray]]
"""Values and training values, to how far the nearest training value of each is [n], and which it is [n]."""
Show = Callable[[Any], dict[str, str]]


def copies(
    answers: Sequence[Any], learnt: Sequence[Any], others: Sequence[Any], nearest: Nearest, show: Show
) -> Copies | None:
    """How many of the drawn answers are nearer to a `learnt` value than all but 1 % of `others`, true values that were
    not learnt. None where there are too few of any."""
    if min(map(len, (answers, learnt, others))) < _FEWEST:
        return None
    own, which = nearest(answers, learnt)
    theirs, _ = nearest(others, learnt)
    rank = max(1, len(others) // 100)
    threshold = float(np.sort(theirs)[rank - 1])
    near = own < threshold
    examples = []
    for i in np.argsort(own, kind="stable")[:_EXAMPLES].tolist():
        try:
            examples.append(Copy(show(answers[i]), show(learnt[int(which[i])]), float(own[i])))
        except BadValueError:  # what is written is no molecule
            continue
    return Copies(
        rows=len(answers),
        others=len(others),
        near=wilson(float(near.sum()), len(answers)),
        by_chance=rank / (len(others) + 1),
        threshold=threshold,
        median=float(np.median(own)),
        median_of_others=float(np.median(theirs)),
        equal=int((own == 0).sum()),
        examples=examples,
    )
