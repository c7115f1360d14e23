"""A value on a line in the network: a piecewise-linear encoding over the training quantiles (arXiv 2203.05556) beside
the standardised value. Asked, it is one slot, read out to a distribution (`nn.heads.distribution`)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.columns.families.scalar.encoder import ScalarEncoder
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss
from onetrunk.core.calibration import Calibration, kept_scores
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.core.module import Calibrated, ColumnModule, Distribution, Expected, OneStep
from onetrunk.nn.dropout import dropout
from onetrunk.nn.heads.calibration import fit_spread, interval_score
from onetrunk.nn.heads.categorical import divergence
from onetrunk.nn.heads.distribution import BarDistribution
from onetrunk.nn.init import normal_

_SAMPLES = 32  # an answer, when answers are sampled
_LEAST_SPREAD, _MOST_SPREAD = 1e-6, 1e6  # how many times as wide an interval can be
_BEND = 3.0  # where the standardised value bends: outliers stay ordered and small (as RealMLP, arXiv 2407.04491)
_LEVEL = 0.9  # of the interval by which how wide they are is calibrated

E = TypeVar("E", bound=ScalarEncoder)


class ScalarModule(ColumnModule[E], Distribution, Calibrated, Expected, OneStep):
    pooled = True

    def __init__(self, encoder: E, width: int) -> None:
        super().__init__(encoder, width)
        self.bars = BarDistribution(encoder.bars.borders, encoder.bars.scales, encoder.bars.mass)
        self.slot = nn.Parameter(torch.zeros(width))
        self._of_bars()

    def _of_bars(self) -> None:
        """What depends on how many bars there are. The first answer is the training distribution."""
        self.line = nn.Linear(self._input_count(), self.width)
        normal_(self.line.weight, std=self.width**-0.5)
        nn.init.zeros_(self.line.bias)
        self.head = self.bars.read_out(2 * self.width)

    def attach_wide(self, outputs: int) -> None:
        """The distribution then is of what is left (`ScalarEncoder.expect_around`)."""
        super().attach_wide(outputs)
        known = self.encoder.bars
        self.bars = BarDistribution(known.borders, known.scales, known.mass)
        self._of_bars()

    def _weighs_states(self) -> bool:
        return bool(self.head.weight.any())

    def _input_count(self) -> int:
        """Steps between borders, and the standardised value."""
        return len(self.encoder.bars.borders)

    def _inputs(self, content: dict[str, Tensor]) -> Tensor:
        """What the embedding is a linear map of: [n, inputs]."""
        z = content["value"][:, None]
        borders, widths = self.bars.borders, self.bars.widths[1:-1]
        steps = ((z - borders[:-1]) / widths).clamp(0, 1)
        # Neighbouring steps move together: without the root their sum would learn too fast.
        return torch.cat([steps / max(1, len(widths)) ** 0.5, z / (1 + (z / _BEND) ** 2).sqrt()], dim=1)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        return torch.where(content["hidden"][:, None], self.slot, self.line(self._inputs(content)))

    # -- positions to answers ----------------------------------------------------------------------------------------
    def logits(self, h: Tensor) -> Tensor:
        """h [r, 2 D] to the distribution's logits [r, K]: of what is left beside a wide read-out."""
        h = h[:, : -self.wide_outputs] if self.wide_outputs else h
        return self.head(dropout(h, self.options.dropout, self.training)).float()

    def _begin(self, h: Tensor) -> Tensor:
        """Where the distribution stands, [r]: at what a wide read-out says. Not len(h), which an export would fix."""
        return h[:, -1].float() if self.wide_outputs else h.new_zeros(h.shape[0], dtype=torch.float32)

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Negative log density of the standardised values, nats: below 0 where a density exceeds 1."""
        w, logits, value = targets["w"], self.logits(h), targets["value"] - self._begin(h)
        spread = 1.0 if self.training else self._spread
        if spread != 1:
            value = _spread(value, self.bars.mean(logits), 1 / spread)
        losses = self.bars.loss(logits, value) + math.log(spread)
        return Loss((losses * w).sum(), w.sum(), losses.detach())

    def expected(self, h: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return self._begin(h) + self.bars.mean(self.logits(h))

    @property
    def units(self) -> tuple[float, float, str]:
        return self.encoder.centre, self.encoder.scale, self.encoder.unit

    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        """Over the bars."""
        return divergence(self.logits(h), teacher.logits(h_teacher), temperature)

    # -- how sure it is ----------------------------------------------------------------------------------------------
    @property
    def _spread(self) -> float:
        return 1.0 if self.calibration is None else self.calibration.spread

    def _interval(self, logits: Tensor, spread: float, level: float = _LEVEL) -> tuple[Tensor, Tensor, Tensor]:
        """The mean, and the ends of the interval [r] that holds `level` of a distribution so many times as wide."""
        mean, ends = self.bars.mean(logits), self.bars.interval(logits, level)
        low, high = (_spread(end, mean, spread) for end in ends)
        return mean, low, high

    def _covering(self, logits: Tensor, coverage: float) -> tuple[Tensor, Tensor, Tensor]:
        """The mean, and the ends of the interval [r] that holds the truth so often: by the conformal scores of the rows
        held out, as far as there are enough for that coverage; else by the distribution."""
        made = self.calibration
        threshold = None if made is None else made.threshold(coverage)
        if threshold is None:
            return self._interval(logits, self._spread, coverage)
        return self._interval(logits, max(threshold, _LEAST_SPREAD))

    def uncalibrated(self, h: Tensor) -> Tensor:
        """The mean and the ends of the 90 % interval, from where the distribution begins; and that, [r, 4]."""
        ends = self._interval(self.logits(h), 1.0)
        return torch.stack([*ends, self._begin(h).expand_as(ends[0])], dim=1)

    def fit_calibration(
        self, outputs: Tensor, targets: dict[str, Tensor], fitted_on: str, learnt: int = 0
    ) -> Calibration | None:
        if not len(outputs):
            return None
        mean, low, high = outputs[:, :3].T.double().cpu().numpy()
        truth = (targets["value"] - outputs[:, 3]).double().cpu().numpy()
        spread = fit_spread(mean - low, high - mean, truth - mean, _LEVEL)

        def judged(spread: float) -> dict[str, float]:
            least, most = mean + spread * (low - mean), mean + spread * (high - mean)
            covered = (least <= truth) & (truth <= most)
            return {"interval_score": interval_score(least, most, truth, _LEVEL), "coverage": float(covered.mean())}

        side = np.maximum(np.where(truth < mean, mean - low, high - mean), np.finfo(np.float64).tiny)
        scores = kept_scores(np.minimum(np.abs(truth - mean) / side, _MOST_SPREAD))
        fitted = Calibration(len(outputs), fitted_on, spread=spread, before=judged(1.0), scores=scores)
        by_scores = fitted.threshold(_LEVEL)  # what an answer's interval is then made of, where there are enough rows
        return replace(fitted, after=judged(spread if by_scores is None else max(by_scores, _LEAST_SPREAD)))

    def start(self, context: AnswerContext) -> State:
        return context.state("temperature", "quantiles", "coverage")

    def query(self, state: State) -> Query:
        done = state["done"]
        content = {
            name: tensor.to(done.device).expand(len(done), *tensor.shape[1:])
            for name, tensor in _blank(self.encoder).items()
        }
        return Query({**content, "hidden": torch.ones_like(done)}, t=1)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        return {**state, "done": ~state["done"], "logits": self.logits(h[:, 0]), "begin": self._begin(h[:, 0])}

    def finish(self, state: State) -> list[Answer]:
        """The mean, an interval, draws when sampled, and quantiles where they are asked for."""
        value, columns = self.encoder.value, self._ends(state) + state["begin"][:, None]
        samples_of, quantiles_of = self._samples(state), self._quantiles(state)
        answers = []
        for i, ((mean, low, high), coverage) in enumerate(
            zip(columns.tolist(), state["coverage"].tolist(), strict=True)
        ):
            samples: list[Any] | None = [value(z) for z in samples_of[i]] if i in samples_of else None
            quantiles = {p: value(z) for p, z in quantiles_of[i].items()} if i in quantiles_of else None
            answers.append(
                Answer(
                    value(mean),
                    interval=(value(low), value(high)),
                    coverage=round(coverage, 6),
                    samples=samples,
                    quantiles=quantiles,
                )
            )
        return answers

    def _ends(self, state: State) -> Tensor:
        """[n, 3]: each answer's mean and the ends of its interval, at its own coverage."""
        logits, coverage = state["logits"], state["coverage"]
        different = coverage.unique().tolist()
        if len(different) == 1:
            return torch.stack(self._covering(logits, round(different[0], 6)), dim=1)
        out = logits.new_zeros(len(logits), 3)
        for each in different:
            rows = (coverage == each).nonzero()[:, 0]
            out[rows] = torch.stack(self._covering(logits[rows], round(each, 6)), dim=1)
        return out

    def _quantiles(self, state: State) -> dict[int, dict[float, float]]:
        """Of the answers that they are asked of, by their number; each by its level."""
        out = {}
        for i in (state["quantiles"] > 0).nonzero()[:, 0].tolist():
            n, logits = int(state["quantiles"][i]), state["logits"][i : i + 1]
            levels = (torch.arange(n, device=logits.device) + 0.5) / n
            at = _spread(self.bars.quantile(logits, levels[None]), self.bars.mean(logits)[:, None], self._spread)
            out[i] = dict(zip(levels.tolist(), (at[0] + state["begin"][i]).tolist(), strict=True))
        return out

    def _samples(self, state: State) -> dict[int, list[float]]:
        """Draws of the answers that are drawn, by their number."""
        rows = (state["temperature"] > 0).nonzero()[:, 0]
        if not len(rows):
            return {}
        keys = state_keys(state)[rows.cpu().numpy()]
        uniform = torch.from_numpy(rng.uniform(rng.mix(keys, "samples"), _SAMPLES)).to(rows.device)
        drawn = self.bars.sample(state["logits"][rows], uniform, state["temperature"][rows])
        drawn = (
            _spread(drawn, self.bars.mean(state["logits"][rows])[:, None], self._spread) + state["begin"][rows, None]
        )
        return dict(zip(rows.tolist(), drawn.tolist(), strict=True))


def _spread(values: Tensor, mean: Tensor, factor: float) -> Tensor:
    """Values, so many times as far from the mean; to the bit as they are where that is once."""
    return values if factor == 1 else mean + factor * (values - mean)


def _blank(encoder: ScalarEncoder) -> dict[str, Tensor]:
    """A blank value as content of one position."""
    return {name: torch.from_numpy(np.asarray(array)[None]) for name, array in encoder.blank().items()}
