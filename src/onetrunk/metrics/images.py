"""Pictures as arrays of one shape, values 0 to 1: how far from the truth, how near to a copy."""

from __future__ import annotations

import numpy as np

_CELLS_AT_ONCE = 4_000_000


def nearest(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance to, and index of, the nearest of m references for each of n queries: [n], [n].

    Drawn pictures much nearer to the training pictures than held-out ones are would be copies.
    """
    if not len(references):
        raise ValueError("nearest() needs at least one reference, found none")
    q = np.asarray(queries, dtype=np.float64).reshape(len(queries), -1)
    r = np.asarray(references, dtype=np.float64).reshape(len(references), -1)
    index = np.empty(len(q), dtype=np.int64)
    at_once = max(1, _CELLS_AT_ONCE // len(r))
    for first in range(0, len(q), at_once):
        some = q[first : first + at_once]
        index[first : first + at_once] = ((r**2).sum(1) - 2 * some @ r.T).argmin(1)
    # The expanded square loses digits where two pictures nearly agree: measure the winner directly.
    return np.sqrt(((q - r[index]) ** 2).sum(1)), index
