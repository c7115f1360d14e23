"""Ranked lists against the one item that came next."""

from __future__ import annotations

import numpy as np

from onetrunk.core.metric import Metric

NEGATIVES = 100


def ranking_metrics(k: int) -> tuple[Metric, ...]:
    """Those of `ranking`."""
    names = (f"hit_rate_{k}", f"ndcg_{k}", "mrr", f"hit_rate_{k}_of_{NEGATIVES + 1}", f"ndcg_{k}_of_{NEGATIVES + 1}")
    return tuple(Metric(name, True) for name in names)


def ranking(ranks: np.ndarray, candidates: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Of every row: is the true item among the first k, its NDCG there and its reciprocal rank, among all candidates;
    and the first two among the true item and 100 others drawn at random (as SASRec is measured, arXiv 1808.09781).

    `ranks` [n] from 1, infinite where an item cannot be answered; `candidates` [n] is out of how many. Of the draws the
    exact expectation is given: how many of them are better is hypergeometric.
    """
    from scipy.stats import hypergeom

    gain = 1 / np.log2(1 + np.arange(1, k + 1))
    first = ranks <= k
    ndcg = np.where(first, gain[np.where(first, ranks, 1).astype(int) - 1], 0)
    ranked = np.isfinite(ranks)
    better = np.where(ranked, ranks - 1, 0).astype(int)
    others = np.maximum(candidates.astype(int) - 1, better)
    drawn = np.minimum(NEGATIVES, others)
    p = hypergeom.pmf(np.arange(k), others[:, None], better[:, None], drawn[:, None]) * ranked[:, None]
    return {
        f"hit_rate_{k}": first.astype(np.float64),
        f"ndcg_{k}": ndcg,
        "mrr": 1 / ranks,
        f"hit_rate_{k}_of_{NEGATIVES + 1}": p.sum(1),
        f"ndcg_{k}_of_{NEGATIVES + 1}": (p * gain).sum(1),
    }
