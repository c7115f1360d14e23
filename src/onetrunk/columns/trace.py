"""Steps with fields, one of which is asked at each: what a student answers, from the skill and all before.

Knowledge tracing (arXiv 1506.05908) is a history of (skill, correct). A step's answer is read where its other fields
are known and its own is not: what was answered at a step enters with the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns._history import FIRST, History, HistoryOptions
from onetrunk.columns.families.names import name_of
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss
from onetrunk.core.decoding import AnswerContext, State
from onetrunk.core.errors import BadValueError
from onetrunk.nn.heads.categorical import linear_cross_entropy

_FEW = 20  # classes of an asked field, for a column to be recognised
_NOW = "shown now "


@dataclass
class Traced(Answer):
    """`p` [t, C] are the probabilities of every class at each of the latest t steps."""

    p: np.ndarray | None = None


@dataclass
class Shares(Answer):
    """What each class's share is, at any step, by a field's class: a rival's answer. [1 + classes, C], the first where
    the class is unknown."""

    field: str | None = None
    by_class: np.ndarray | None = None


class Trace(History):
    """All fields but the asked one are known at the step itself."""

    read_out = ("head", "bias")

    class Options(HistoryOptions):
        ask: str | None = None  # the field that is asked; None: the last

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if not values or not all(
            isinstance(v, Mapping) and len(v) > 1 and all(isinstance(x, list | tuple | np.ndarray) for x in v.values())
            for v in values
        ):
            return 0.0
        last = Counter(name_of(x) for v in values for x in list(v.values())[-1] if x is not None)
        return 0.7 if 1 < len(last) <= _FEW else 0.0

    def _choose(self, names: list[str]) -> str:
        return self.options.ask or next((n for n in reversed(names) if n != self.options.time), "step")

    def known(self) -> list[str]:
        return [name for name in self.names if name != self.asked]

    def build(self, width: int) -> None:
        super().build(width)
        self.head = nn.Parameter(torch.zeros(len(self.counts), width))
        self.bias = nn.Parameter(torch.zeros(len(self.counts)))

    def _grow(self, count: int) -> None:
        self.head = nn.Parameter(torch.cat([self.head.data, self.head.data.mean(0, keepdim=True).expand(count, -1)]))
        self.bias = nn.Parameter(torch.cat([self.bias.data, self.bias.data.min().expand(count)]))

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        h = torch.cat([h, torch.ones_like(h[:, :1])], dim=1)
        weight = torch.cat([self.head, self.bias[:, None]], dim=1)
        total, each = linear_cross_entropy(h, weight, targets["id"], targets["w"])
        return Loss(total, targets["w"].sum(), each)

    def start(self, context: AnswerContext) -> State:
        """One step of which nothing is known where there is none."""
        content = self._none(context.n) if context.prompt is None else context.prompt
        lens = np.minimum(content.lens, self.options.length)
        return self._start_state(context, content, content.lens - lens, np.maximum(lens, 1))

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        return {**state, "done": ~state["done"], "p": F.linear(h, self.head, self.bias).float().softmax(-1)}

    def finish(self, state: State) -> list[Answer]:
        answers: list[Answer] = []
        shown = {name: state[_NOW + name].cpu().numpy() for name in self.known()}
        for i, (size, p) in enumerate(zip(state["size"].tolist(), state["p"].cpu().numpy(), strict=True)):
            p = p[:size]
            best = p.argmax(1)
            value: dict[str, list[Any]] = {}
            for name in self.names:
                rows = FIRST + best if name == self.asked else shown[name][i, :size]
                value[name] = [self.value_at(name, int(row)) for row in rows]
            scores = [float(x) for x in p.max(1)]
            whole = value if len(value) > 1 else value[self.asked]
            answers.append(Traced(whole, scores[-1], scores=scores, p=p))
        return answers

    # -- evidence ----------------------------------------------------------------------------------------------------
    def split(self, value: Any) -> tuple[Any, Any]:
        """The whole value twice: every step is answered from what stands before it, and all are judged."""
        self.target([value])
        return value, value

    def target(self, values: Sequence[Any]) -> np.ndarray:
        out = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):
            out[i] = self.encode(value)
            if (out[i][self.asked] < FIRST).all():
                raise BadValueError(f"no step has a known {self.asked}")
        return out

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Over all steps of all rows whose truth is known, those too far back for an answer left out."""
        from onetrunk.metrics.classification import classification

        classes = self.classes[self.asked]
        names, p = [], [np.zeros((0, len(classes)))]
        for answer, truth in zip(answers, truths, strict=True):
            given = self._probabilities(answer, truth)
            then = self._fields(truth)[self.asked][-len(given) :]
            known = [i for i, v in enumerate(then) if v is not None]
            names += [name_of(then[i]) for i in known]
            p.append(given[known])
        p_NC = np.concatenate(p)
        found = classification(names, [classes[i] for i in p_NC.argmax(1)], p_NC, classes)
        return {"auc": found.pop("auc"), **found}

    def _probabilities(self, answer: Answer, truth: Any) -> np.ndarray:
        """Of each class at each step [t, C]."""
        if isinstance(answer, Traced):
            return answer.p
        if isinstance(answer, Shares):
            rows = self.encode(truth)[answer.field or self.asked]
            return answer.by_class[np.maximum(rows - FIRST + 1, 0) if answer.field else np.zeros_like(rows)]
        place = self._place(self.asked)
        rows = [place.get(name_of(v), FIRST) - FIRST for v in self._fields(answer.value)[self.asked]]
        return np.eye(len(self.counts))[rows]

    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns._rivals import StepShares

        fields = [name for name in self.known() if name in self.classes]
        rivals = {f"share by {name}": StepShares(self.asked, len(self.counts), FIRST, name) for name in fields}
        return {"share": StepShares(self.asked, len(self.counts), FIRST), **rivals}

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        shares = estimator.by_class_
        return [Shares(None, field=estimator.field, by_class=shares) for _ in range(features.shape[0])]


CODEC = Trace
