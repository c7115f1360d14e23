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
from onetrunk.columns.families.names import name_of
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss
from onetrunk.core.decoding import AnswerContext, State, state_keys
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.nn.heads.categorical import linear_cross_entropy, sampled_cross_entropy

_FLATTER = 0.75  # items are drawn as negatives by their count to this power (word2vec, arXiv 1310.4546)
_AT_ONCE = 256  # rows of scores of a whole catalogue
_NEIGHBOURS = 100  # of an item that item kNN looks at


@dataclass
class Ranking(Answer):
    """The likeliest items. `scores_of(rows)` gives the scores of every item, float [k, V], of rows like this `row`; of
    those not to be answered -inf. `ranks` holds what was asked: an item's rank, and out of how many."""

    scores_of: Callable[[np.ndarray], np.ndarray] | None = None
    row: int = 0
    ranks: dict[int, tuple[float, int]] = field(default_factory=dict)


class Items(History):
    """The table of items is also the read-out. Other fields, and the time since the step before, enter with theirs."""

    nouns = "items"
    read_out = ("bias",)

    class Options(HistoryOptions):
        item: str | None = None  # the field that holds the items; None: the first
        top: int = Field(10, ge=1, le=1000)  # how many are answered, and looked at by the metrics
        repeat: bool = False  # may an answer be an item already seen?
        negatives: int = Field(2, ge=0, le=1000)  # drawn with every history, for its whole batch; 0: all items are
        small: int = Field(4096, ge=0)  # a catalogue up to this size is always taken whole
        catalogue: int | None = Field(None, ge=1)  # how many items there are; None: those of the training rows

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        lists = [v for v in values if isinstance(v, list | tuple | np.ndarray)]
        if len(lists) < len(values) or not lists:
            return 0.3 if values and all(_named_lists(v) for v in values) else 0.0
        whole = all(isinstance(x, int | np.integer) and not isinstance(x, bool) for v in lists for x in v)
        return 0.6 if whole else 0.4 * all(isinstance(x, str) for v in lists for x in v)

    def _choose(self, names: list[str]) -> str:
        return self.options.item or next((name for name in names if name != self.options.time), "item")

    def fit(self, values: Sequence[Any]) -> None:
        super().fit(values)
        if (catalogue := self.options.catalogue) is not None and catalogue < len(self.counts):
            raise DataError(
                f"catalogue says that there are {catalogue:,} items, but the training rows hold {len(self.counts):,}: "
                "expected at least as many."
            )

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
        """Each history's negatives stand at its first read, -1 at the others."""
        if not self._sampled():
            return {}
        whose = np.repeat(np.arange(len(lens)), lens)[reads]
        opens = np.flatnonzero(np.diff(whose, prepend=-1))
        u = rng.uniform(rng.mix(keys[whose[opens]], "negatives"), self.options.negatives).astype(np.float64)
        drawn = np.full((len(reads), self.options.negatives), -1, dtype=np.int64)
        drawn[opens] = np.searchsorted(self._cumulative(), u)
        return {"drawn": drawn}

    def _cumulative(self) -> np.ndarray:
        if len(getattr(self, "_cumulated", ())) != len(self.counts):
            self._cumulated = np.cumsum(self._shares(_FLATTER).double().numpy())
            self._cumulated /= self._cumulated[-1]
        return self._cumulated

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        w = targets["w"]
        if self.training and "drawn" in targets:
            log_q = self._shares(_FLATTER).log().to(h.device)
            drawn = targets["drawn"][targets["drawn"] >= 0]
            total, each = sampled_cross_entropy(h, self._items(), self.bias, targets["id"], w, drawn, log_q)
        else:
            h = torch.cat([h, torch.ones_like(h[:, :1])], dim=1)
            weight = torch.cat([self._items(), self.bias[:, None]], dim=1)
            total, each = linear_cross_entropy(h, weight, targets["id"], w)
        return Loss(total, w.sum(), each)

    def start(self, context: AnswerContext) -> State:
        """`seen` holds rows of the items' table, 0 (which is of no item) where there is nothing."""
        content = self._none(context.n) if context.prompt is None else context.prompt
        lens = np.minimum(content.lens, self.options.length)
        state = self._start_state(context, content, content.lens - lens, lens + 1)
        inside = np.arange(max(1, content.lens.max(initial=1))) < content.lens[:, None]
        seen = np.zeros(inside.shape, dtype=np.int64)
        seen[inside] = content.gather()[self.asked].astype(np.int64)
        return {**state, "seen": context.tensor(seen)}

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        h = h[torch.arange(len(h)), state["size"] - 1].float()
        scores = F.linear(h, self._items().float(), self.bias.float())
        if not self.options.repeat:
            scores = _without(scores, state["seen"])
        p = scores.softmax(-1)
        rows = (state["temperature"] > 0).nonzero()[:, 0]
        if len(rows):  # the first k of perturbed scores are k drawn without replacement
            u = torch.from_numpy(rng.uniform(state_keys(state)[rows.cpu().numpy()], scores.shape[1])).to(h.device)
            noise = -(-u.clamp(1e-7, 1 - 1e-7).log()).log()
            scores[rows] = scores[rows] / state["temperature"][rows, None] + noise
        top = scores.topk(min(self.options.top, scores.shape[1]), dim=-1).indices
        return {**state, "done": ~state["done"], "h": h, "top": top, "p": p.gather(1, top)}

    def finish(self, state: State) -> list[Answer]:
        items, bias = self._items().detach().float(), self.bias.detach().float()
        h, seen = state["h"], state["seen"]

        @torch.inference_mode()
        def scores_of(rows: np.ndarray) -> np.ndarray:
            scores = F.linear(h[rows], items, bias)
            return (scores if self.options.repeat else _without(scores, seen[rows])).cpu().numpy()

        return self._rankings(state["top"].cpu().numpy(), state["p"].cpu().numpy(), scores_of)

    def _rankings(self, top: np.ndarray, p: np.ndarray, scores_of: Callable[[np.ndarray], np.ndarray]) -> list[Answer]:
        """Answers of rows whose likeliest items `top` [n, k] have the scores `p` [n, k]."""
        out: list[Answer] = []
        for row, (best, scores) in enumerate(zip(top, p, strict=True)):
            kept = scores > 0  # fewer than `top` may be left of a small catalogue
            values = [self.value_at(self.asked, FIRST + int(i)) for i in best[kept]]
            found = [float(x) for x in scores[kept]]
            probability = found[0] if found and found[0] <= 1 else None
            out.append(Ranking(values, probability, scores=found, scores_of=scores_of, row=row))
        return out

    # -- evidence ----------------------------------------------------------------------------------------------------
    def counted(self) -> list[str]:
        return [self.asked]

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

    def each(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, np.ndarray]:
        """Every metric of every row, float64 [n] each: the metrics are their means."""
        from onetrunk.metrics.ranking import ranking

        found = []
        items = [self._next(truth) for truth in truths]
        _rank(answers, items)
        for answer, truth, item in zip(answers, truths, items, strict=True):
            if isinstance(answer, Ranking):
                found.append(answer.ranks[item])
            else:  # a list alone
                names = [name_of(v) for v in self._fields(answer.value)[self.asked]]
                own = name_of(self._fields(truth)[self.asked][0])
                found.append((1.0 + names.index(own) if own in names else np.inf, len(self.counts)))
        ranks, candidates = np.array(found, dtype=np.float64).reshape(-1, 2).T
        never_met = max(0, (self.options.catalogue or 0) - len(self.counts))
        return ranking(ranks, candidates + never_met, self.options.top)

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        found = {n: float(x.mean()) if len(x) else None for n, x in self.each(answers, truths).items()}
        return {**found, "unseen": float(sum(self._next(truth) < 0 for truth in truths))}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        return next(iter(self.each(answers, truths).values()))

    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns._rivals import ItemNeighbours, Popularity

        count = len(self.counts)
        return {"popularity": Popularity(count), "item kNN": ItemNeighbours(count, _NEIGHBOURS)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self._next(v) for v in values], dtype=np.int64)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        count = len(self.counts)
        seen = features[:, -count:] if features.shape[1] >= count else features[:, :0]

        def scores_of(rows: np.ndarray) -> np.ndarray:
            scores = estimator.predict(features[rows])
            if not self.options.repeat:
                scores[seen[rows].nonzero()] = -np.inf
            return scores

        top, best = [], []
        for rows in np.array_split(np.arange(features.shape[0]), -(-features.shape[0] // _AT_ONCE)):
            scores = scores_of(rows)
            top.append(np.argsort(-scores, axis=1, kind="stable")[:, : self.options.top])
            best.append(np.take_along_axis(scores, top[-1], axis=1))
        return self._rankings(np.concatenate(top), np.concatenate(best), scores_of)


def _rank(answers: Sequence[Answer], items: Sequence[int]) -> None:
    """Fills in the ranks, from 1, of these items in their answers (items as likely count half); infinite where one
    cannot be answered."""
    groups: dict[int, list[tuple[Ranking, int]]] = {}
    for answer, item in zip(answers, items, strict=True):
        if isinstance(answer, Ranking) and item not in answer.ranks:
            groups.setdefault(id(answer.scores_of), []).append((answer, item))
    for group in groups.values():
        for first in range(0, len(group), _AT_ONCE):
            part = group[first : first + _AT_ONCE]
            scores = part[0][0].scores_of(np.array([answer.row for answer, _ in part]))
            item = np.array([i for _, i in part])
            own = np.where(item < 0, -np.inf, scores[np.arange(len(part)), item])[:, None]
            rank = 1 + (scores > own).sum(1) + np.maximum((scores == own).sum(1) - 1, 0) // 2
            rank = np.where(np.isfinite(own[:, 0]), rank, np.inf)
            for (answer, i), r, n in zip(part, rank, np.isfinite(scores).sum(1), strict=True):
                answer.ranks[i] = float(r), int(n)


def _named_lists(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(v, list | tuple | np.ndarray) for v in value.values())


def _without(scores: Tensor, seen: Tensor) -> Tensor:
    """-inf for what was seen: `seen` [n, t] holds rows of the items' table."""
    wide = torch.cat([scores, scores[:, :1]], dim=1)  # the last takes what is nothing
    wide.scatter_(1, torch.where(seen < FIRST, scores.shape[1], seen - FIRST), -torch.inf)
    return wide[:, :-1]


CODEC = Items
