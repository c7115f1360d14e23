"""What certainty is worth on the held-out rows: are answers right as often as they say (reliability), and how much
better are the surest ones (what a model that may abstain reaches, Geifman and El-Yaniv, arXiv 1705.08500)?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder, Ordered
from onetrunk.core.errors import BadValueError
from onetrunk.evaluation.intervals import wilson
from onetrunk.evaluation.judge import Judge

BINS = 10
SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
FEWEST_ROWS = 20  # of a bin, or of the surest: fewer say nothing


def sureness(encoder: Encoder, answers: Sequence[Answer]) -> np.ndarray | None:
    """How sure each answer is, float64 [n]: its probability; of numbers and dates minus the width of their interval.
    None where answers do not say."""
    out = []
    for answer in answers:
        p = answer.probability
        if isinstance(p, dict) and p and not isinstance(answer.value, list | tuple | set):
            out.append(answer.certainty)
        elif isinstance(p, float | int):
            out.append(float(p))
        elif answer.interval is not None and isinstance(encoder, Ordered):
            try:
                low, high = map(encoder.to_line, answer.interval)
            except BadValueError:
                return None
            out.append(low - high)
        else:
            return None
    sure = np.array(out, dtype=np.float64)
    return sure if len(sure) and np.isfinite(sure).all() else None


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Rows by how sure they are, in up to 10 bins of equally many: the mean confidence of each and how often they are
    right, with Wilson's interval. `right` float64 [n] is 0 to 1."""
    order = np.argsort(confidence, kind="stable")
    bins = max(1, min(BINS, len(order) // FEWEST_ROWS))
    out = []
    for rows in np.array_split(order, bins):
        share = wilson(float(right[rows].sum()), len(rows))
        sure = float(confidence[rows].mean())
        out.append({"rows": len(rows), "confidence": sure, "right": share.value, "low": share.low, "high": share.high})
    return out


def abstention(judge: Judge, answers: Sequence[Answer], sure: np.ndarray) -> list[dict[str, Any]]:
    """The main metric of the surest rows, at falling shares of them; `least` is how sure the last of them is. Rows that
    are as sure are taken by their number."""
    order = np.argsort(-sure, kind="stable")
    out = []
    for share in SHARES:
        count = round(share * len(order))
        if count < FEWEST_ROWS:
            break
        kept = np.sort(order[:count])
        out.append(
            {"share": share, "rows": count, "value": judge.at(answers, kept), "least": float(sure[order[count - 1]])}
        )
    return out if len(out) > 1 and np.ptp(sure) > 0 else []
