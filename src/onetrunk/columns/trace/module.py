"""Traces in the network: each step's answer is read out of the step's own state."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.families.history.encoder import FIRST, NOW
from onetrunk.columns.families.history.module import STEPS, HistoryModule
from onetrunk.columns.trace.answers import Traced
from onetrunk.columns.trace.encoder import TraceEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss
from onetrunk.core.decoding import AnswerContext, State
from onetrunk.core.encoder import Growth
from onetrunk.core.module import grown, grown_bias
from onetrunk.nn.heads.categorical import linear_cross_entropy


class TraceModule(HistoryModule[TraceEncoder]):
    read_out = ("head", "bias")

    def __init__(self, encoder: TraceEncoder, width: int) -> None:
        super().__init__(encoder, width)
        self.head = nn.Parameter(torch.zeros(len(encoder.counts), width))
        self.bias = nn.Parameter(torch.zeros(len(encoder.counts)))

    def grow(self, growth: Growth) -> None:
        """New classes of the asked field are as likely as the least likely one."""
        super().grow(growth)
        if new := growth.tables.get(self.encoder.asked):
            self.head = grown(self.head, new)
            self.bias = grown_bias(self.bias, len(new))

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        total, each = linear_cross_entropy(h, self.head, self.bias, targets["id"], targets["w"])
        return Loss(total, targets["w"].sum(), each)

    # -- the decoding loop -------------------------------------------------------------------------------------------
    def start(self, context: AnswerContext) -> State:
        """One step of which nothing is known where there is none."""
        content = self.encoder.nothing(context.n) if context.prompt is None else context.prompt
        lens = np.minimum(content.lens, self.options.length)
        return self._start_state(context, content, content.lens - lens, np.maximum(lens, 1))

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        return {**state, "done": ~state["done"], "p": F.linear(h, self.head, self.bias).float().softmax(-1)}

    def finish(self, state: State) -> list[Answer]:
        encoder = self.encoder
        answers: list[Answer] = []
        known = {name: state[STEPS + NOW + name].cpu().numpy() for name in encoder.known()}
        for i, (size, p) in enumerate(zip(state["size"].tolist(), state["p"].cpu().numpy(), strict=True)):
            p = p[:size]
            best = p.argmax(1)
            value: dict[str, list[Any]] = {}
            for name in encoder.names:
                rows = FIRST + best if name == encoder.asked else known[name][i, :size]
                value[name] = [encoder.value_at(name, int(row)) for row in rows]
            scores = [float(x) for x in p.max(1)]
            whole = value if len(value) > 1 else value[encoder.asked]
            answers.append(Traced(whole, scores[-1], scores=scores, p=p))
        return answers
