"""Ranked lists against the one item that came next."""

from __future__ import annotations

import numpy as np

NEGATIVES = 100


def hits(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the rank [n] (1 is first) is among the first k, float64 [n]."""
    return (ranks <= k).astype(np.float64)


def ranking(ranks: np.ndarray, candidates: np.ndarray, k: int) -> dict[str, float | None]:
    """Hit rate and NDCG among the first k and the mean reciprocal rank, among all candidates; and the first two among
    the true item and 100 others drawn at random (as SASRec is measured, arXiv 1808.09781).

    `ranks` [n] from 1, infinite where an item cannot be ranked; `candidates` [n] is out of how many. Of the draws the
    exact expectation is given: the number of better ones among them is hypergeometric.
    """
    names = [f"hit_rate_{k}", f"ndcg_{k}", "mrr", f"hit_rate_{k}_of_101", f"ndcg_{k}_of_101"]
    if not len(ranks):
        return dict.fromkeys(names)
    from scipy.stats import hypergeom

    gain = 1 / np.log2(1 + np.arange(1, k + 1))
    first = ranks <= k
    ndcg = np.where(first, gain[np.where(first, ranks, 1).astype(int) - 1], 0)
    ranked = np.isfinite(ranks)
    better = np.where(ranked, ranks - 1, 0).astype(int)
    others = np.maximum(candidates.astype(int) - 1, better)
    drawn = np.minimum(NEGATIVES, others)
    p = hypergeom.pmf(np.arange(k), others[:, None], better[:, None], drawn[:, None]) * ranked[:, None]
    found = [hits(ranks, k).mean(), ndcg.mean(), np.mean(1 / ranks), p.sum(1).mean(), (p * gain).sum(1).mean()]
    return {name: float(value) for name, value in zip(names, found, strict=True)}
