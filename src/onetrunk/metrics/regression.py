"""Numbers, in their own units; of a distribution also its interval's coverage and its quantiles' CRPS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onetrunk.core.metric import Metric

REGRESSION = (
    Metric("rmse", False),
    Metric("mae", False),
    Metric("r2", True),
    Metric("medae", False),
    Metric("spearman", True),
    Metric("coverage", True),
    Metric("interval_width", False),
    Metric("crps", False),
)
IN_UNITS = ("rmse", "mae", "medae", "interval_width", "crps")  # of what is measured; the others are shares and scores


def regression(
    truths: Sequence[float] | np.ndarray,
    predicted: Sequence[float] | np.ndarray,
    interval: np.ndarray | None = None,
    quantiles: np.ndarray | None = None,
    levels: Sequence[float] = (),
) -> dict[str, float | None]:
    """Metrics of n answers. `interval` is [n, 2] (low, high); `quantiles` [n, Q] at `levels` [Q] in (0, 1).

    R² and Spearman need two different truths. CRPS is twice the mean pinball loss, exact as Q grows (Gneiting
    and Raftery 2007); levels should lie evenly, as (i + 1/2) / Q.
    """
    names = ["rmse", "mae", "r2", "medae", "spearman"]
    names += ["coverage", "interval_width"] if interval is not None else []
    names += ["crps"] if quantiles is not None else []
    out: dict[str, float | None] = dict.fromkeys(names)
    if not len(truths):
        return out
    y, f = np.asarray(truths, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    error = f - y
    out["rmse"] = float(np.sqrt((error**2).mean()))
    out["mae"] = float(np.abs(error).mean())
    out["medae"] = float(np.median(np.abs(error)))
    spread = ((y - y.mean()) ** 2).sum()
    if spread > 0:
        out["r2"] = float(1 - (error**2).sum() / spread)
        out["spearman"] = _spearman(y, f)
    if interval is not None:
        low, high = np.asarray(interval, dtype=np.float64).T
        out["coverage"] = float(((low <= y) & (y <= high)).mean())
        out["interval_width"] = float((high - low).mean())
    if quantiles is not None:
        out["crps"] = _crps(y, np.asarray(quantiles, dtype=np.float64), np.asarray(levels, dtype=np.float64))
    return out


def _crps(y: np.ndarray, quantiles: np.ndarray, levels: np.ndarray) -> float:
    below = y[:, None] - quantiles
    return float(2 * np.maximum(levels * below, (levels - 1) * below).mean())


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Correlation of ranks; ties share their mean rank. None where one side is constant."""
    ranks = np.stack([_ranks(a), _ranks(b)])
    if (ranks == ranks[:, :1]).all(1).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
