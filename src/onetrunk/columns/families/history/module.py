"""Histories in the network: a step is the sum of its fields' vectors; one step of decoding answers all positions."""

from __future__ import annotations

from functools import reduce
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.families.history.encoder import FIRST, MISSING, NOW, HistoryEncoder
from onetrunk.core.answer import Sampling
from onetrunk.core.content import Content
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.encoder import Growth
from onetrunk.core.module import ColumnModule, grown
from onetrunk.nn.dropout import dropout
from onetrunk.nn.init import normal

E = TypeVar("E", bound=HistoryEncoder)

STEPS = "steps of "  # before the name of what a state holds of the positions to embed


class HistoryModule(ColumnModule[E]):
    """A type of it reads out the asked field."""

    def __init__(self, encoder: E, width: int) -> None:
        super().__init__(encoder, width)
        sizes = [encoder.table_size(name) for name in encoder.names]
        self.tables = nn.ParameterList(normal(size, width, std=0.05) for size in sizes)
        known = [i for i, name in enumerate(encoder.names) if name in encoder.known()]
        self.now = nn.ParameterDict({str(i): normal(sizes[i], width, std=0.05) for i in known})

    def grow(self, growth: Growth) -> None:
        for i, name in enumerate(self.encoder.names):
            if new := growth.tables.get(name):
                self.tables[i] = grown(self.tables[i], new, FIRST)
                if str(i) in self.now:
                    self.now[str(i)] = grown(self.now[str(i)], new, FIRST)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        names = self.encoder.names
        x = reduce(torch.add, (F.embedding(content[n], table) for n, table in zip(names, self.tables, strict=True)))
        for i, table in self.now.items():
            x = x + F.embedding(content[NOW + names[int(i)]], table)
        return dropout(x, self.options.dropout, self.training)

    # -- the decoding loop -------------------------------------------------------------------------------------------
    def _start_state(self, context: AnswerContext, content: Content, first: np.ndarray, lens: np.ndarray) -> State:
        """A state that holds `lens` [n] positions of each document, padded at the end."""
        n, t = len(lens), int(lens.max(initial=1))
        inside = np.arange(t) < lens[:, None]
        state = context.state("temperature") | {"size": context.tensor(lens)}
        for name, rows in self.encoder.steps_before(content, first, lens).items():
            padded = np.full((n, t), MISSING, dtype=np.int32)
            padded[inside] = rows
            state[STEPS + name] = context.tensor(padded)
        return state

    def query(self, state: State) -> Query:
        t = int(state["size"].max())
        steps = {k.removeprefix(STEPS): v[:, :t] for k, v in state.items() if k.startswith(STEPS)}
        valid = torch.arange(t, device=state["size"].device) < state["size"][:, None]
        return Query({name: rows.flatten() for name, rows in steps.items()}, t=t, causal=True, valid=valid)

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.minimum(prompt, self.options.length) + 1
