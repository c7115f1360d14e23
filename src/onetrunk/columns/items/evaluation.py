"""How ranked lists are judged: at which rank the item stands that came next; beside popularity and item kNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.history.encoder import FIRST
from onetrunk.columns.families.history.evaluation import HistoryEvaluation
from onetrunk.columns.items.encoder import ItemsEncoder
from onetrunk.columns.items.ranking import Ranking, as_ranking, fill_ranks
from onetrunk.core.answer import Answer
from onetrunk.core.metric import Metric
from onetrunk.metrics.classification import UNSEEN
from onetrunk.metrics.ranking import ranking, ranking_metrics

_ROWS_AT_ONCE = 256  # of scores of a whole catalogue
_NEIGHBOURS = 100  # of an item that item kNN looks at


class ItemsEvaluation(HistoryEvaluation[ItemsEncoder]):
    def metrics(self) -> tuple[Metric, ...]:
        return (*ranking_metrics(self.encoder.options.top), UNSEEN)

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        rows = self.metrics_per_row(answers, truths)
        unseen = sum(self.encoder.next_item(truth) < 0 for truth in truths)
        return {**{n: float(x.mean()) if len(x) else None for n, x in rows.items()}, UNSEEN.name: float(unseen)}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        return next(iter(self.metrics_per_row(answers, truths).values()))

    def metrics_per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, np.ndarray]:
        """Every metric of every row, float64 [n] each: the metrics are their means."""
        encoder = self.encoder
        items = [encoder.next_item(truth) for truth in truths]
        fill_ranks(answers, items)
        judged = [self._rank(*row) for row in zip(answers, truths, items, strict=True)]
        ranks, candidates = np.array(judged, dtype=np.float64).reshape(-1, 2).T
        never_seen = max(0, (encoder.options.catalogue or 0) - len(encoder.counts))
        return ranking(ranks, candidates + never_seen, encoder.options.top)

    def _rank(self, answer: Answer, truth: Any, item: int) -> tuple[float, int]:
        """The rank of what came next, and out of how many; a list alone is ranked as it stands."""
        if isinstance(answer, Ranking) and item in answer.ranks:
            return answer.ranks[item]
        name = self.encoder.finder(self.encoder.asked).name
        names = [name(v) for v in self.encoder.listed(answer.value)]
        own = name(self.encoder.listed(truth)[0])
        return 1.0 + names.index(own) if own in names else np.inf, len(self.encoder.counts)

    # -- baselines ---------------------------------------------------------------------------------------------------
    def counted(self) -> list[str]:
        return [self.encoder.asked]

    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns.items.baselines import ItemNeighbours, Popularity

        count = len(self.encoder.counts)
        return {"popularity": Popularity(count), "item kNN": ItemNeighbours(count, _NEIGHBOURS)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self.encoder.next_item(v) for v in values], dtype=np.int64)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        """Of a `Ranker`."""
        catalogue, seen = estimator.catalogue(), estimator.seen(features)
        queries = estimator.queries(features)
        answers: list[Answer] = []
        for rows in np.array_split(np.arange(features.shape[0]), -(-features.shape[0] // _ROWS_AT_ONCE)):
            scores = catalogue.scores(queries[rows])
            if not self.encoder.options.repeat:
                scores[seen[rows].nonzero()] = -np.inf
            top = np.argsort(-scores, axis=1, kind="stable")[:, : self.encoder.options.top]
            for row, best, own in zip(rows.tolist(), top, scores, strict=True):
                excluded = np.flatnonzero(np.isneginf(own))
                best = best[own[best] > 0]
                values = [self.encoder.value_at(self.encoder.asked, FIRST + int(i)) for i in best]
                answers.append(as_ranking(values, own[best], catalogue, queries[row], excluded))
        return answers
