"""A ranked list as an answer, and what is needed to say at which rank any other item would stand.

The scores of a whole catalogue are many numbers a row. An answer keeps what they are made of: a vector of its own, and
the catalogue's vectors, which all answers of one model share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer

_ROWS_AT_ONCE = 256  # of scores of a whole catalogue


@dataclass
class Catalogue:
    """Items' vectors [V, K], dense or sparse, and biases float [V]: an item's score is its bias and the product of its
    vector with the answer's."""

    vectors: Any
    bias: np.ndarray

    def scores(self, queries: Any) -> np.ndarray:
        """Of answers' vectors [n, K], dense or sparse: [n, V]."""
        products = queries @ self.vectors.T
        return (products if isinstance(products, np.ndarray) else products.toarray()) + self.bias


@dataclass
class Ranking(Answer):
    """The likeliest items, and what ranks the others.

    `query` [K], or [1, K] where sparse, is the answer's vector. `excluded` int64 are the items that were not to be
    answered. `ranks` holds what was asked: an item's rank from 1, and out of how many.
    """

    catalogue: Catalogue | None = None
    query: Any = None
    excluded: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    ranks: dict[int, tuple[float, int]] = field(default_factory=dict)


def fill_ranks(answers: Sequence[Answer], items: Sequence[int]) -> None:
    """Fills in the ranks of these items in their answers (items as likely count half); infinite where one cannot be
    answered."""
    groups: dict[int, list[tuple[Ranking, int]]] = {}
    for answer, item in zip(answers, items, strict=True):
        if isinstance(answer, Ranking) and answer.catalogue is not None and item not in answer.ranks:
            groups.setdefault(id(answer.catalogue), []).append((answer, item))
    for group in groups.values():
        for first in range(0, len(group), _ROWS_AT_ONCE):
            _fill(group[first : first + _ROWS_AT_ONCE])


def _fill(group: list[tuple[Ranking, int]]) -> None:
    scores = _scores([answer for answer, _ in group])
    item = np.array([i for _, i in group])
    own = np.where(item < 0, -np.inf, scores[np.arange(len(group)), item])[:, None]
    rank = 1 + (scores > own).sum(1) + np.maximum((scores == own).sum(1) - 1, 0) // 2
    rank = np.where(np.isfinite(own[:, 0]), rank, np.inf)
    for (answer, i), r, n in zip(group, rank, np.isfinite(scores).sum(1), strict=True):
        answer.ranks[i] = float(r), int(n)


def _scores(answers: list[Ranking]) -> np.ndarray:
    """Of every item in answers of one catalogue, [n, V]; -inf where one is excluded."""
    catalogue, queries = answers[0].catalogue, [answer.query for answer in answers]
    if isinstance(queries[0], np.ndarray):
        stacked = np.stack(queries)
    else:
        from scipy import sparse

        stacked = sparse.vstack(queries)
    assert catalogue is not None
    scores = catalogue.scores(stacked)
    for row, answer in zip(scores, answers, strict=True):
        row[answer.excluded] = -np.inf
    return scores


def as_ranking(
    values: list[Any], scores: np.ndarray, catalogue: Catalogue, query: Any, excluded: np.ndarray
) -> Ranking:
    """An answer of the likeliest items and their scores [k], the best first: probabilities, or what baselines have."""
    listed = [float(x) for x in scores]
    probability = listed[0] if listed and listed[0] <= 1 else None
    return Ranking(values, probability, scores=listed, catalogue=catalogue, query=query, excluded=excluded)
