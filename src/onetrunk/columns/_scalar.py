"""What columns whose values are points on a line share: how they are embedded, asked and judged.

A value is given as one position: a piecewise-linear encoding over the training quantiles (arXiv 2203.05556)
beside the standardised value. Asked, it is one slot, read out to a distribution (`nn.heads.distribution`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss
from onetrunk.core.column import Codec
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.nn.dropout import dropout
from onetrunk.nn.heads.categorical import divergence
from onetrunk.nn.heads.distribution import BarDistribution

_SAMPLES = 32  # an answer, when answers are sampled
_MOST = 1e15  # standardised values end here: their squares are still finite in float32
_CLIP = 3.0  # where the standardised value bends: outliers stay ordered and small (as RealMLP, arXiv 2407.04491)


class Scalar(Codec):
    """A type says how its values map to the line (`to_line`) and back (`from_line`)."""

    pooled = True
    higher_is_better = False
    unit: ClassVar[float] = 1.0  # metrics are in this many units of the line

    class Options(Config):
        bars: int = Field(64, ge=2, le=1024)  # of the distribution, and steps of the encoding
        dropout: float = Field(0.0, ge=0, lt=1)  # before the read-out

    @abstractmethod
    def to_line(self, value: Any) -> float:
        """A finite position. Raises BadValueError with the reason."""

    @abstractmethod
    def from_line(self, position: float) -> Any:
        """The value at a position, in the column's own units."""

    # -- knowledge ------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        line, reason = [], "no values"
        for value in values:
            try:
                line.append(self.to_line(value))
            except BadValueError as error:
                reason = str(error)
        if not line:
            kind = type(self).__name__.lower()
            raise DataError(f"A {kind} column needs at least one usable value in the training rows: {reason}.")
        positions = np.array(line, dtype=np.float64)
        # Robust, so that a heavy tail does not squeeze the rest together. Deviations of 0 are left out: a
        # value that most rows share says nothing about the scale.
        self.centre = float(np.median(positions))
        deviations = np.abs(positions - self.centre)
        deviations = deviations[deviations > 0]
        self.scale = float(np.median(deviations)) * 1.4826 if len(deviations) else 1.0
        self.bars = BarDistribution.fit(self._standardised(positions), self.options.bars)

    def knowledge(self) -> dict[str, Any]:
        return {"centre": self.centre, "scale": self.scale, "bars": self.bars.knowledge()}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.centre, self.scale = knowledge["centre"], knowledge["scale"]
        self.bars = BarDistribution(**knowledge["bars"])

    def build(self, width: int) -> None:
        inputs = self._inputs(_tensors(self.blank())).shape[1]
        self.line = nn.Linear(inputs, width)
        self.slot = nn.Parameter(torch.zeros(width))
        self.head = nn.Linear(2 * width, self.bars.size)
        nn.init.normal_(self.line.weight, std=width**-0.5)
        nn.init.zeros_(self.line.bias)
        nn.init.zeros_(self.head.weight)  # the first answer is the training distribution
        self.head.bias.data.copy_(self.bars.mass.log())

    def _standardised(self, position: Any) -> Any:
        return np.clip((position - self.centre) / self.scale, -_MOST, _MOST)

    # -- values to parts ------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        return {"value": np.float32(self._standardised(self.to_line(value)))}

    def blank(self) -> dict[str, np.ndarray]:
        return {"value": np.float32(0)}

    # -- parts to positions ---------------------------------------------------------------------------------
    def segment(self, content: Content, role: Role, keys: np.ndarray, augment: bool = False) -> Segment:
        parts = content.gather()
        m = len(content)
        lens = np.ones(m, dtype=np.int64)
        if role == Role.GIVEN:
            return Segment({**parts, "hidden": np.zeros(m, dtype=bool)}, lens)
        shown = {name: np.zeros_like(array) for name, array in parts.items()}
        targets = {"value": parts["value"], "w": np.ones(m, dtype=np.float32)}
        hidden = np.ones(m, dtype=bool)
        return Segment({**shown, "hidden": hidden}, lens, reads=np.arange(m, dtype=np.int64), targets=targets)

    def _inputs(self, content: dict[str, Tensor]) -> Tensor:
        """What the embedding is a linear map of: [n, inputs]."""
        z = content["value"][:, None]
        borders, widths = self.bars.borders, self.bars.widths[1:-1]
        steps = ((z - borders[:-1]) / widths).clamp(0, 1)
        # Neighbouring steps move together: without the root their sum would learn too fast.
        return torch.cat([steps / max(1, len(widths)) ** 0.5, z / (1 + (z / _CLIP) ** 2).sqrt()], dim=1)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        return torch.where(content["hidden"][:, None], self.slot, self.line(self._inputs(content)))

    # -- positions to answers -------------------------------------------------------------------------------
    def logits(self, h: Tensor) -> Tensor:
        """h [r, 2 D] to the distribution's logits [r, K]."""
        return self.head(dropout(h, self.options.dropout, self.training)).float()

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Negative log density of the standardised values, nats: below 0 where a density exceeds 1."""
        w = targets["w"]
        losses = self.bars.loss(self.logits(h), targets["value"])
        return Loss((losses * w).sum(), w.sum(), losses.detach())

    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        """Over the bars."""
        return divergence(self.logits(h), teacher.logits(h_teacher), temperature)

    def start(self, context: AnswerContext) -> State:
        return context.state("temperature")

    def query(self, state: State) -> Query:
        done = state["done"]
        content = {
            name: tensor.to(done.device).expand(len(done), *tensor.shape[1:])
            for name, tensor in _tensors(self.blank()).items()
        }
        return Query({**content, "hidden": torch.ones_like(done)}, t=1)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        return {**state, "done": ~state["done"], "logits": self.logits(h[:, 0])}

    def finish(self, state: State) -> list[Answer]:
        """The mean, a central 90 % interval and, when sampled, draws."""
        logits = state["logits"]
        columns = torch.stack([self.bars.mean(logits), *self.bars.interval(logits, 0.9)], dim=1)
        samples_of = self._samples(state)
        answers = []
        for i, (mean, low, high) in enumerate(columns.tolist()):
            samples = [self._answer(z) for z in samples_of[i]] if i in samples_of else None
            interval = (self._answer(low), self._answer(high))
            answers.append(Answer(self._answer(mean), interval=interval, samples=samples))
        return answers

    def _samples(self, state: State) -> dict[int, list[float]]:
        """Draws of the answers that are drawn, by their number."""
        rows = (state["temperature"] > 0).nonzero()[:, 0]
        if not len(rows):
            return {}
        keys = state_keys(state)[rows.cpu().numpy()]
        uniform = torch.from_numpy(rng.uniform(rng.mix(keys, "samples"), _SAMPLES)).to(rows.device)
        drawn = self.bars.sample(state["logits"][rows], uniform, state["temperature"][rows])
        return dict(zip(rows.tolist(), drawn.tolist(), strict=True))

    def _answer(self, z: float) -> Any:
        return self.from_line(self.centre + self.scale * z)

    # -- evidence -------------------------------------------------------------------------------------------
    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        from onetrunk.metrics.regression import regression

        intervals = None
        if all(a.interval is not None for a in answers):
            intervals = [tuple(self.to_line(end) / self.unit for end in a.interval) for a in answers]
        predictions = self.target([a.value for a in answers]) / self.unit
        return regression(self.target(truths) / self.unit, predictions, intervals)

    def features(self) -> Any:
        """[n, k + 1]: what `_traits` gives, then whether the value is missing."""
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: np.stack([self._row(value) for value in values]))

    def _row(self, value: Any) -> np.ndarray:
        try:
            traits = self._traits(self.blank() if value is None else self.encode(value))
            missing = value is None
        except BadValueError:
            traits, missing = self._traits(self.blank()), True
        return np.append(traits * (not missing), float(missing))

    def _traits(self, item: dict[str, np.ndarray]) -> np.ndarray:
        """What a simple model sees of one encoded value, float64 [k]: as much as ours does."""
        return np.atleast_1d(item["value"]).astype(np.float64)

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyRegressor
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import Ridge

        return {
            "mean": DummyRegressor(),
            "ridge": Ridge(),
            "gradient boosting": HistGradientBoostingRegressor(random_state=0),
        }

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self.to_line(value) for value in values], dtype=np.float64)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        return [Answer(self.from_line(float(position))) for position in estimator.predict(features)]

    def figure(self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any) -> bool:
        true = [self.from_line(self.to_line(truth)) for truth in truths]  # one type, also where spellings differ
        axes.scatter(true, [a.value for a in answers], s=8, alpha=0.5)
        ends = [min(true), max(true)]
        axes.plot(ends, ends, color="grey", linewidth=1)
        axes.set_xlabel("true")
        axes.set_ylabel("answered")
        return True


def _tensors(item: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """One encoded value as content of one position."""
    return {name: torch.from_numpy(np.asarray(array)[None]) for name, array in item.items()}
