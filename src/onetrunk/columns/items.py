"""Items: what a person bought, watched or clicked, in order; asked, what comes next, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from onetrunk.columns._history import FIRST, History, HistoryOptions
from onetrunk.columns._names import name_of
from onetrunk.core import rng
from onetrunk.core.column import Sampling, State
from onetrunk.core.errors import BadValueError
from onetrunk.core.sequence import Answer, Content, Loss, local_positions
from onetrunk.nn.heads.categorical import linear_cross_entropy, sampled_cross_entropy

_FLATTER = 0.75  # items are drawn as negatives by their count to this power (word2vec, arXiv 1310.4546)
_AT_ONCE = 256  # rows of scores of a whole catalogue
_NEIGHBOURS = 100  # of an item that item kNN looks at


@dataclass
class Ranking(Answer):
    """The likeliest items. `scores_of_all` makes every item's score, float32 [V], those not to be answered -inf."""

    scores_of_all: Callable[[], np.ndarray] | None = None
    _ranks: dict[int, tuple[float, int]] = field(default_factory=dict)

    def rank(self, item: int) -> tuple[float, int]:
        """Its rank, from 1 (items as likely count half), and out of how many; infinite where it cannot be answered."""
        if item not in self._ranks:
            scores = self.scores_of_all()
            own = scores[item] if item >= 0 else -np.inf
            rank = 1 + (scores > own).sum() + ((scores == own).sum() - 1) // 2 if np.isfinite(own) else np.inf
            self._ranks[item] = float(rank), int(np.isfinite(scores).sum())
        return self._ranks[item]


class Items(History):
    """The table of items is also the read-out. Other fields, and the time since the step before, enter with theirs."""

    nouns = "items"
    read_out = ("bias",)

    class Options(HistoryOptions):
        item: str | None = None  # the field that holds the items; None: the first
        top: int = Field(10, ge=1, le=1000)  # how many are answered, and looked at by the metrics
        repeat: bool = False  # may an answer be an item already seen?
        negatives: int = Field(1, ge=0, le=1000)  # drawn with every step, for all of a batch; 0: the whole catalogue
        small: int = Field(4096, ge=0)  # a catalogue up to this size is always taken whole

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        lists = [v for v in values if isinstance(v, list | tuple | np.ndarray)]
        if len(lists) < len(values) or not lists:
            return 0.3 if values and all(_named_lists(v) for v in values) else 0.0
        whole = all(isinstance(x, int | np.integer) and not isinstance(x, bool) for v in lists for x in v)
        return 0.5 if whole else 0.4 * all(isinstance(x, str) for v in lists for x in v)

    def _choose(self, names: list[str]) -> str:
        return self.options.item or next((name for name in names if name != self.options.time), "item")

    def build(self, width: int) -> None:
        super().build(width)
        self.bias = nn.Parameter(self._shares().log())  # begins at how popular each item is

    def _shares(self, power: float = 1.0) -> Tensor:
        counts = torch.tensor(self.counts, dtype=torch.float32) ** power
        return counts / counts.sum()

    def _grow(self, count: int) -> None:
        self.bias = nn.Parameter(torch.cat([self.bias.data, self.bias.data.min().expand(count)]))

    # -- positions to answers ----------------------------------------------------------------------------------------
    def _items(self) -> Tensor:
        """The items' vectors [V, D], which are also what reads out."""
        return self.tables[self.names.index(self.asked)][FIRST:]

    def _sampled(self) -> bool:
        return bool(self.options.negatives) and len(self.counts) > self.options.small

    def _drawn(self, keys: np.ndarray, lens: np.ndarray, reads: np.ndarray) -> dict[str, np.ndarray]:
        if not self._sampled():
            return {}
        each = rng.mix(np.repeat(rng.mix(keys, "negatives"), lens), local_positions(lens))[reads]
        u = rng.uniform(each, self.options.negatives)
        return {"drawn": np.searchsorted(self._cumulative(), u.astype(np.float64)).astype(np.int64)}

    def _cumulative(self) -> np.ndarray:
        if len(getattr(self, "_cumulated", ())) != len(self.counts):
            self._cumulated = np.cumsum(self._shares(_FLATTER).double().numpy())
            self._cumulated /= self._cumulated[-1]
        return self._cumulated

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        w = targets["w"]
        if self.training and "drawn" in targets:
            log_q = self._shares(_FLATTER).log().to(h.device)
            drawn = targets["drawn"].flatten()
            total, each = sampled_cross_entropy(h, self._items(), self.bias, targets["id"], w, drawn, log_q)
        else:
            h = torch.cat([h, torch.ones_like(h[:, :1])], dim=1)
            weight = torch.cat([self._items(), self.bias[:, None]], dim=1)
            total, each = linear_cross_entropy(h, weight, targets["id"], w)
        return Loss(total, w.sum(), each)

    def start(
        self, n: int, sampling: Sampling, keys: np.ndarray, device: torch.device, prompt: Content | None = None
    ) -> State:
        content = self._none(n) if prompt is None else prompt
        lens = np.minimum(content.lens, self.options.length)
        state = self._begun(content, content.lens - lens, lens + 1, device)
        inside = np.arange(max(1, content.lens.max(initial=1))) < content.lens[:, None]
        seen = np.full(inside.shape, -1, dtype=np.int64)
        seen[inside] = content.gather()[self.asked].astype(np.int64) - FIRST
        keys = torch.from_numpy(keys.view(np.int64).copy())
        return {**state, "seen": torch.from_numpy(seen).to(device), "keys": keys}

    def step(self, state: State, h: Tensor, free: Tensor | None, sampling: Sampling) -> State:
        h = h[torch.arange(len(h)), state["size"] - 1].float()
        scores = F.linear(h, self._items().float(), self.bias.float())
        if not self.options.repeat:
            scores = _without(scores, state["seen"])
        p = scores.softmax(-1)
        if sampling.temperature > 0:  # the first k of perturbed scores are k drawn without replacement
            u = rng.uniform(state["keys"].numpy().view(np.uint64), scores.shape[1])
            scores = scores / sampling.temperature - (-torch.from_numpy(u).clamp(1e-7, 1 - 1e-7).log()).log().to(
                h.device
            )
        top = scores.topk(min(self.options.top, scores.shape[1]), dim=-1).indices
        return {**state, "done": ~state["done"], "h": h, "top": top, "p": p.gather(1, top)}

    def finish(self, state: State) -> list[Answer]:
        items, bias = self._items().detach().float().cpu().numpy(), self.bias.detach().float().cpu().numpy()
        rows = zip(*(state[name].cpu().numpy() for name in ("h", "seen", "top", "p")), strict=True)

        def scores(h: np.ndarray, seen: np.ndarray) -> np.ndarray:
            found = items @ h + bias
            if not self.options.repeat:
                found[seen[seen >= 0]] = -np.inf
            return found

        return [self._ranking(top, p, lambda h=h, seen=seen: scores(h, seen)) for h, seen, top, p in rows]

    def _ranking(self, top: np.ndarray, p: np.ndarray, scores_of_all: Callable[[], np.ndarray]) -> Ranking:
        kept = p > 0  # less than `top` may be left of a small catalogue
        values = [self.value_at(self.asked, FIRST + int(i)) for i in top[kept]]
        scores = [float(x) for x in p[kept]]
        return Ranking(values, scores[0] if scores else None, scores=scores, scores_of_all=scores_of_all)

    # -- evidence ----------------------------------------------------------------------------------------------------
    def split(self, value: Any) -> tuple[Any, Any]:
        """All but the last item, and the last; a history of one comes after nothing."""
        fields = self._fields(value)
        before, then = {n: v[:-1] for n, v in fields.items()}, {n: v[-1:] for n, v in fields.items()}
        if isinstance(value, Mapping):
            return before, then
        return before[self.asked], then[self.asked]

    def _next(self, value: Any) -> int:
        """The first item of what came next, -1 where it was never seen."""
        name = self._fields(value)[self.asked][0]
        if name is None:
            raise BadValueError("the item that came next is missing")
        return self._place(self.asked).get(name_of(name), FIRST - 1) - FIRST

    def _ranks(self, answers: Sequence[Answer], truths: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for answer, truth in zip(answers, truths, strict=True):
            item = self._next(truth)
            if isinstance(answer, Ranking):
                found.append(answer.rank(item))
            else:  # a list alone
                names = [name_of(v) for v in self._fields(answer.value)[self.asked]]
                own = name_of(self._fields(truth)[self.asked][0])
                found.append((1.0 + names.index(own) if own in names else np.inf, len(self.counts)))
        ranks, candidates = np.array(found, dtype=np.float64).reshape(-1, 2).T
        return ranks, candidates

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        from onetrunk.metrics.ranking import ranking

        unseen = sum(self._next(truth) < 0 for truth in truths)
        return {**ranking(*self._ranks(answers, truths), self.options.top), "unseen": float(unseen)}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        from onetrunk.metrics.ranking import hits

        return hits(self._ranks(answers, truths)[0], self.options.top)

    def features(self) -> Any:
        """How often each item was seen, sparse [n, V]."""
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(self._counts)

    def _counts(self, values: Sequence[Any]) -> Any:
        from scipy.sparse import csr_matrix

        rows = [np.zeros(0, np.int64) if not _steps(v) else self.encode(v)[self.asked] - FIRST for v in values]
        rows = [row[row >= 0] for row in rows]
        ends = np.append(0, np.cumsum([len(row) for row in rows]))
        columns = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
        return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(values), len(self.counts)))

    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns._neighbours import ItemNeighbours, Popularity

        count = len(self.counts)
        return {"popularity": Popularity(count), "item kNN": ItemNeighbours(count, _NEIGHBOURS)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self._next(v) for v in values], dtype=np.int64)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        answers: list[Answer] = []
        for first in range(0, features.shape[0], _AT_ONCE):
            part = features[first : first + _AT_ONCE]
            for row, scores in enumerate(self._rivals(estimator, part)):
                top = np.argsort(-scores, kind="stable")[: self.options.top]
                p = np.where(np.isfinite(scores[top]), np.maximum(scores[top], 1e-12), 0)
                answers.append(
                    self._ranking(top, p, lambda part=part, row=row: self._rivals(estimator, part[row : row + 1])[0])
                )
        return answers

    def _rivals(self, estimator: Any, features: Any) -> np.ndarray:
        """Scores [n, V] of a baseline, -inf for what was seen."""
        scores = estimator.predict(features)
        if not self.options.repeat:
            seen = features[:, -len(self.counts) :] if features.shape[1] >= len(self.counts) else features[:, :0]
            rows, columns = seen.nonzero()
            scores[rows, columns] = -np.inf
        return scores


def _named_lists(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(v, list | tuple | np.ndarray) for v in value.values())


def _steps(value: Any) -> int:
    """How many there are; none in a missing value."""
    lists = value.values() if isinstance(value, Mapping) else [value]
    return max((0 if v is None else len(v) for v in lists), default=0)


def _without(scores: Tensor, seen: Tensor) -> Tensor:
    """-inf for what was seen; `seen` [n, t] holds -1 where there is nothing."""
    wide = torch.cat([scores, scores[:, :1]], dim=1)  # the last takes what is nothing
    wide.scatter_(1, torch.where(seen < 0, scores.shape[1], seen), -torch.inf)
    return wide[:, :-1]


CODEC = Items
