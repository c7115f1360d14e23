"""Items in the network: the table of items is also the read-out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.families.history.encoder import FIRST
from onetrunk.columns.families.history.module import HistoryModule
from onetrunk.columns.items.encoder import ItemsEncoder
from onetrunk.columns.items.ranking import Catalogue, as_ranking
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss
from onetrunk.core.decoding import AnswerContext, State, state_keys
from onetrunk.core.encoder import Growth
from onetrunk.core.module import grown_bias
from onetrunk.nn.heads.categorical import linear_cross_entropy, sampled_cross_entropy


class ItemsModule(HistoryModule[ItemsEncoder]):
    read_out = ("bias",)

    def __init__(self, encoder: ItemsEncoder, width: int) -> None:
        super().__init__(encoder, width)
        self.bias = nn.Parameter(torch.from_numpy(encoder.shares()).log())  # begins at how popular each item is
        self._catalogue: Catalogue | None = None

    def grow(self, growth: Growth) -> None:
        """New items are as likely as the least popular one."""
        super().grow(growth)
        new = len(growth.tables.get(self.encoder.asked, []))
        if new:
            self.bias = grown_bias(self.bias, new)

    def items(self) -> Tensor:
        """The items' vectors [V, D], which are also what reads out."""
        return self.tables[self.encoder.names.index(self.encoder.asked)][FIRST:]

    def catalogue(self) -> Catalogue:
        """The items as answers keep them: a copy, made anew only when they have changed, so that answers share it."""
        vectors, bias = (x.detach().float().cpu().numpy() for x in (self.items(), self.bias))
        old = self._catalogue
        if old is None or not (np.array_equal(old.vectors, vectors) and np.array_equal(old.bias, bias)):
            self._catalogue = old = Catalogue(vectors.copy(), bias.copy())
        return old

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        w = targets["w"]
        if self.training and "drawn" in targets:
            log_q = torch.from_numpy(self.encoder.negative_shares()).log().to(h.device)
            drawn = targets["drawn"][targets["drawn"] >= 0]
            total, each = sampled_cross_entropy(h, self.items(), self.bias, targets["id"], w, drawn, log_q)
        else:
            total, each = linear_cross_entropy(h, self.items(), self.bias, targets["id"], w)
        return Loss(total, w.sum(), each)

    # -- the decoding loop -------------------------------------------------------------------------------------------
    def start(self, context: AnswerContext) -> State:
        """`seen` holds rows of the items' table, 0 (which is of no item) where there is nothing."""
        encoder = self.encoder
        content = encoder.nothing(context.n) if context.prompt is None else context.prompt
        lens = np.minimum(content.lens, self.options.length)
        state = self._start_state(context, content, content.lens - lens, lens + 1)
        inside = np.arange(max(1, content.lens.max(initial=1))) < content.lens[:, None]
        seen = np.zeros(inside.shape, dtype=np.int64)
        seen[inside] = content.gather()[encoder.asked].astype(np.int64)
        return {**state, "seen": context.tensor(seen)}

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        h = h[torch.arange(len(h)), state["size"] - 1].float()
        scores = F.linear(h, self.items().float(), self.bias.float())
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
        encoder, catalogue = self.encoder, self.catalogue()
        rows = (state[name].cpu().numpy() for name in ("top", "p", "h", "seen"))
        answers: list[Answer] = []
        for top, p, h, seen in zip(*rows, strict=True):
            kept = p > 0  # fewer than `top` may be left of a small catalogue
            values = [encoder.value_at(encoder.asked, FIRST + int(i)) for i in top[kept]]
            excluded = seen[seen >= FIRST] - FIRST if not self.options.repeat else seen[:0]
            answers.append(as_ranking(values, p[kept], catalogue, h, excluded))
        return answers


def _without(scores: Tensor, seen: Tensor) -> Tensor:
    """-inf for what was seen: `seen` [n, t] holds rows of the items' table."""
    wide = torch.cat([scores, scores[:, :1]], dim=1)  # the last takes what is nothing
    wide.scatter_(1, torch.where(seen < FIRST, scores.shape[1], seen - FIRST), -torch.inf)
    return wide[:, :-1]
