"""Ranked lists: what is counted, against the definitions and against drawing."""

from __future__ import annotations

import numpy as np
import pytest

from onetrunk.metrics.ranking import ranking


def test_the_whole_catalogue() -> None:
    ranks = np.array([1, 3, 10, 11, np.inf])
    result = ranking(ranks, np.full(5, 500), 10)
    assert result["hit_rate_10"].tolist() == [1, 1, 1, 0, 0]
    assert result["ndcg_10"] == pytest.approx([1, 1 / np.log2(4), 1 / np.log2(11), 0, 0])
    assert result["mrr"] == pytest.approx([1, 1 / 3, 1 / 10, 1 / 11, 0])


@pytest.mark.parametrize("rank", [1, 40, 90, 300])
def test_a_hundred_negatives_are_expected_over_all_draws(rank: int) -> None:
    result = ranking(np.array([float(rank)]), np.array([1000]), 10)
    dice = np.random.default_rng(0)
    better = np.array([(dice.permutation(999)[:100] < rank - 1).sum() for _ in range(4000)])  # 999 others, best first
    hits = better < 10
    assert result["hit_rate_10_of_101"][0] == pytest.approx(hits.mean(), abs=0.03)
    gains = np.where(hits, 1 / np.log2(2 + better), 0)
    assert result["ndcg_10_of_101"][0] == pytest.approx(gains.mean(), abs=0.03)


def test_small_catalogues_and_what_cannot_be_answered() -> None:
    result = ranking(np.array([2.0, np.inf]), np.array([12, 12]), 10)
    assert result["hit_rate_10_of_101"].tolist() == pytest.approx([1, 0]), "all eleven others are drawn"
    assert result["ndcg_10_of_101"].tolist() == pytest.approx([1 / np.log2(3), 0])
    assert all(len(x) == 0 for x in ranking(np.zeros(0), np.zeros(0), 10).values())
