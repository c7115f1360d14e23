"""Levels in order: how far answers are from what is true, counted in levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onetrunk.core.metric import Metric

ORDINAL = (Metric("level_error", False, "levels"), Metric("quadratic_kappa", True))


def distances(truths: Sequence[str], predicted: Sequence[str], levels: Sequence[str]) -> np.ndarray:
    """How many levels lie between each answer and the truth, float64 [n]. A true level that was not among the training
    levels is as far as the farthest: no model could have answered it."""
    place = {name: k for k, name in enumerate(levels)}
    far = float(len(levels) - 1)
    pairs = zip(truths, predicted, strict=True)
    return np.array([abs(place[t] - place[p]) if t in place and p in place else far for t, p in pairs], dtype=float)


def ordinal(truths: Sequence[str], predicted: Sequence[str], levels: Sequence[str]) -> dict[str, float | None]:
    """Mean distance in levels, and Cohen's kappa with quadratic weights (Cohen 1968) over the known truths: 1 where all
    agree, 0 as by chance; None where all truths and answers are one level."""
    if not len(truths):
        return {metric.name: None for metric in ORDINAL}
    place = {name: k for k, name in enumerate(levels)}
    known = [(place[t], place[p]) for t, p in zip(truths, predicted, strict=True) if t in place and p in place]
    return {
        "level_error": float(distances(truths, predicted, levels).mean()),
        "quadratic_kappa": _kappa(np.array(known, dtype=np.int64).reshape(-1, 2), len(levels)),
    }


def _kappa(pairs: np.ndarray, count: int) -> float | None:
    table = np.zeros((count, count))
    np.add.at(table, (pairs[:, 0], pairs[:, 1]), 1.0)
    at = np.arange(count)
    weight = (at[:, None] - at[None]) ** 2
    expected = (weight * np.outer(table.sum(1), table.sum(0))).sum() / max(len(pairs), 1)
    return None if expected == 0 else float(1 - (weight * table).sum() / expected)
