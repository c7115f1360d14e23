"""A category in the network: one slot, read out from the slot's state and the mean of what is given; cross entropy
(several at once: sigmoids), also with labels that are distributions. Of levels in order the read-out is one score and
the cuts between levels (`nn.heads.ordinal`). With the option `on` it is read from another column's last position alone,
as recurrent models do."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.category.encoder import CategoryEncoder
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss
from onetrunk.core.calibration import Calibration, class_scores, doubt_after, kept_scores
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.core.encoder import Growth
from onetrunk.core.module import Calibrated, ColumnModule, Distribution, Mixed, OneStep, grown, grown_bias
from onetrunk.metrics.classification import ece
from onetrunk.nn.dropout import dropout
from onetrunk.nn.heads import calibration as calibrating
from onetrunk.nn.heads.categorical import choose, divergence, linear_cross_entropy
from onetrunk.nn.heads.ordinal import CumulativeLogits, log_levels, median_level
from onetrunk.nn.init import normal

_SAME = 1e-6  # of two conformal scores: their last bits depend on what was computed together


class CategoryModule(ColumnModule[CategoryEncoder], Distribution, Calibrated, Mixed, OneStep):
    read_out = ("head", "bias", "levels")
    levels: CumulativeLogits | None  # of levels in order
    slope: Tensor  # of a wide read-out's number, beside them

    def __init__(self, encoder: CategoryEncoder, width: int) -> None:
        super().__init__(encoder, width)
        self.pooled = encoder.on is None
        count = len(encoder.classes)
        self.table = nn.Parameter(normal(count, width, std=width**-0.5))
        if not encoder.multi:
            self.unknown = nn.Parameter(torch.zeros(width))
        self.slot = nn.Parameter(torch.zeros(width))
        self.head = nn.Parameter(torch.zeros(1 if encoder.ordered else count, (1 + self.pooled) * width))
        self.levels = CumulativeLogits(encoder.around[1]) if encoder.ordered else None
        if encoder.ordered:
            self.register_buffer("slope", torch.ones(()))
        else:
            self.bias = nn.Parameter(torch.zeros(count))

    def attach_wide(self, outputs: int) -> None:
        """What the trunk adds to it begins as nothing."""
        super().attach_wide(outputs)
        with torch.no_grad():
            self.head.zero_()
            if self.levels is None:
                self.bias.zero_()
            else:
                slope, cuts = self.encoder.around
                self.slope.fill_(slope)
                self.levels.set_cuts(torch.from_numpy(cuts))

    def _weighs_states(self) -> bool:
        return bool(self.head.any())

    def grow(self, growth: Growth) -> None:
        if rows := growth.tables.get("classes"):
            self.table, self.head = grown(self.table, rows), grown(self.head, rows)
            self.bias = grown_bias(self.bias, len(rows))

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        if self.encoder.multi:
            embedded = content["hot"] @ self.table
        elif self.encoder.soft:
            p = content["p"]
            embedded = p @ self.table + (1 - p.sum(-1, keepdim=True)) * self.unknown
        else:
            ids = content["id"]
            embedded = torch.where((ids < 0)[:, None], self.unknown, F.embedding(ids.clamp(min=0), self.table))
        return torch.where(content["hidden"][:, None], self.slot, embedded)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def logits(self, h: Tensor) -> Tensor:
        """h [r, D'] to float32 [r, classes]. What a wide read-out says is where they begin."""
        if self.levels is not None:
            own, wide = self._scores(h)
            return self.levels(own + wide)
        begin: Tensor | float = 0.0
        if self.wide_outputs:
            h, begin = h[:, : -self.wide_outputs], h[:, -self.wide_outputs :].float()
        h = dropout(h, self.options.dropout, self.training)
        return F.linear(h, self.head, self.bias).float() + begin

    def _scores(self, h: Tensor) -> tuple[Tensor, Tensor | float]:
        """Of levels: how high the trunk and a wide read-out say that each is, [r]; they add up."""
        wide: Tensor | float = 0.0
        if self.wide_outputs:
            h, wide = h[:, : -self.wide_outputs], self.slope * h[:, -1].float()
        return F.linear(dropout(h, self.options.dropout, self.training), self.head)[:, 0].float(), wide

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        w = targets["w"]
        if self.calibration is not None and not self.training:
            each = self._calibrated_loss(self.logits(h), targets, self.calibration)
            return Loss((each * w).sum(), w.sum(), each.detach())
        if self.encoder.multi:
            losses = F.binary_cross_entropy_with_logits(self.logits(h), targets["hot"], reduction="none").mean(-1)
            return Loss((losses * w).sum(), w.sum(), losses.detach())
        smoothing = self.options.smoothing if self.training else 0.0
        true = targets["p"] if self.encoder.soft else targets["id"].clamp(min=0)
        if self.wide_outputs or self.encoder.soft or self.levels is not None:
            each = F.cross_entropy(self.logits(h), true, reduction="none", label_smoothing=smoothing)
            return Loss((each * w).sum(), w.sum(), each.detach())
        h = dropout(h, self.options.dropout, self.training)
        total, each = linear_cross_entropy(h, self.head, self.bias, true, w, smoothing)
        return Loss(total, w.sum(), each)

    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        own, theirs = self.logits(h), teacher.logits(h_teacher)
        if not self.encoder.multi:
            return divergence(own, theirs, temperature)
        # Each class is there or not: a softmax over its logit and 0.
        own, theirs = (torch.stack([x, torch.zeros_like(x)], dim=-1) for x in (own, theirs))
        return divergence(own, theirs, temperature).mean(-1)

    # -- how sure it is ----------------------------------------------------------------------------------------------
    def probabilities(self, logits: Tensor, calibration: Calibration | None) -> Tensor:
        """[r, classes]"""
        return (calibrating.each_of if self.encoder.multi else calibrating.one_of)(logits, calibration)

    def _calibrated_loss(self, logits: Tensor, targets: dict[str, Tensor], calibration: Calibration) -> Tensor:
        if self.encoder.multi:
            return calibrating.loss_of_each(logits, targets["hot"].to(logits), calibration).mean(-1)
        if self.encoder.soft:
            return calibrating.loss_of_shares(logits, targets["p"], calibration)
        return calibrating.loss_of_one(logits, targets["id"].clamp(min=0), calibration)

    def uncalibrated(self, h: Tensor) -> Tensor:
        """The logits [r, K]."""
        return self.logits(h)

    def fit_calibration(
        self, outputs: Tensor, targets: dict[str, Tensor], fitted_on: str, learnt: int = 0
    ) -> Calibration | None:
        logits = outputs.double()
        if not self.encoder.multi:
            name, known = ("p", targets["p"].sum(-1) > 0) if self.encoder.soft else ("id", targets["id"] >= 0)
            logits, targets = logits[known], {name: targets[name][known]}
        rows = len(logits)
        if not rows:
            return None
        doubt = doubt_after(rows + learnt, 2 if self.encoder.multi else logits.shape[1])

        def loss(calibration: Calibration) -> float:
            return float(self._calibrated_loss(logits, targets, calibration).sum())

        temperature = calibrating.fit_temperature(lambda t: loss(Calibration(rows, "", t, doubt)))
        fitted = Calibration(rows, fitted_on, temperature, doubt)
        before, after = (
            {"log_loss": loss(each) / rows, "ece": self._ece(logits, self.probabilities(logits, each), targets)}
            for each in (Calibration(rows, ""), fitted)
        )
        scores = [] if self.encoder.multi else self._conformal_scores(self.probabilities(logits, fitted), targets)
        return replace(fitted, before=before, after=after, scores=scores)

    def _conformal_scores(self, p: Tensor, targets: dict[str, Tensor]) -> list[float]:
        """Of what is true of each row, by the probabilities that answers then have."""
        scores = class_scores(p.float().cpu().numpy().astype(np.float64), self.encoder.ordered)
        if self.encoder.soft:
            return kept_scores(scores, targets["p"].cpu().numpy())
        return kept_scores(scores[np.arange(len(scores)), targets["id"].cpu().numpy()])

    def mix(self, h: Tensor, targets: dict[str, Tensor]) -> float:
        if self.levels is not None:
            return self._mix_levels(self.levels, h, targets)
        wide = h[:, -self.wide_outputs :].double()
        own = self.logits(torch.cat([h[:, : -self.wide_outputs], torch.zeros_like(h[:, -self.wide_outputs :])], dim=1))
        plain = Calibration(len(h), "")

        def loss(own_share: float, wide_share: float) -> float:
            return float(self._calibrated_loss(own_share * own.double() + wide_share * wide, targets, plain).mean())

        own_share, wide_share = calibrating.fit_shares(loss, len(h))
        self.head.data.mul_(own_share)
        self.bias.data.mul_(own_share)
        return wide_share

    def _mix_levels(self, levels: CumulativeLogits, h: Tensor, targets: dict[str, Tensor]) -> float:
        """The scores count, and the cuts lie where they are then best."""
        own, wide = self._scores(h)
        assert isinstance(wide, Tensor), "two are weighed where there is a wide read-out"
        plain = Calibration(len(h), "")

        def loss(score: Tensor, cuts: Tensor) -> Tensor:
            return self._calibrated_loss(log_levels(score, cuts), targets, plain).mean()

        cuts = levels.cuts.detach().double().cpu().numpy()
        targets = {name: target.cpu() for name, target in targets.items()}
        own_share, wide_share, cuts = calibrating.fit_scores(own.double().cpu(), wide.double().cpu(), cuts, loss)
        self.head.data.mul_(own_share)
        levels.set_cuts(torch.from_numpy(cuts))
        return wide_share

    def _ece(self, logits: Tensor, p: Tensor, targets: dict[str, Tensor]) -> float:
        """Of several at once, of each class by itself; an answer to a distribution is right as much as it says."""
        if self.encoder.multi:
            answered = p >= 0.5
            sure, right = torch.where(answered, p, 1 - p), answered == (targets["hot"] > 0.5)
        else:
            answer = self.answered(logits)[:, None]
            sure = p.gather(1, answer)
            right = targets["p"].gather(1, answer) if self.encoder.soft else answer == targets["id"][:, None]
        return ece(sure.flatten().cpu().numpy(), right.flatten().cpu().numpy())

    def answered(self, logits: Tensor) -> Tensor:
        """The likeliest class of each row; of levels the one in the middle, which is least wrong by its distance. It
        does not depend on the calibration. int64 [r]"""
        return logits.argmax(-1) if self.levels is None else median_level(logits)

    def start(self, context: AnswerContext) -> State:
        state = context.state("temperature", "top_k", "top_p", "coverage")
        if context.read_positions is not None:
            state["lens"] = context.tensor(context.read_positions.lens)
        return state

    def query(self, state: State) -> Query:
        n, device = len(state["done"]), state["done"].device
        hidden = torch.ones(n, dtype=torch.bool, device=device)
        if self.encoder.multi:
            return Query({"hot": torch.zeros(n, len(self.encoder.classes), device=device), "hidden": hidden}, t=1)
        if self.encoder.soft:
            return Query({"p": torch.zeros(n, len(self.encoder.classes), device=device), "hidden": hidden}, t=1)
        return Query({"id": torch.zeros(n, dtype=torch.int64, device=device), "hidden": hidden}, t=1)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        if "lens" in state:  # the last position; of nothing, zeros
            h = F.pad(h, (0, 0, 1, 0))[torch.arange(h.shape[0], device=h.device), state["lens"]][:, None]
        logits = self.logits(h[:, 0])
        p = self.probabilities(logits, self.calibration)
        return {**state, "done": ~state["done"], "p": p, "id": self.answered(logits)}

    def finish(self, state: State) -> list[Answer]:
        """The likeliest class, of levels the one in the middle, or one that is drawn here: `step` alone is what other
        runtimes run. Beside it a conformal set, where the calibration knows one."""
        ids = state["id"]
        if bool((state["temperature"] > 0).any()):
            uniform = torch.from_numpy(rng.uniform(state_keys(state))).to(ids.device)
            drawn = choose(state["p"].log(), uniform, state["temperature"], state["top_k"], state["top_p"])
            ids = torch.where(state["temperature"] > 0, drawn, ids)
        answers, encoder, p_NC = [], self.encoder, state["p"].cpu().numpy()
        sets = self._sets(p_NC, state["coverage"].tolist())
        for p, i, (coverage, chosen) in zip(p_NC, ids.tolist(), sets, strict=True):
            probability = dict(zip(encoder.classes, p.tolist(), strict=True))
            if encoder.multi:
                answers.append(Answer([encoder.value(int(k)) for k in np.flatnonzero(p >= 0.5)], probability))
                continue
            logprob = float(np.log(max(p[i], 1e-30)))
            answer = Answer(encoder.value(i), probability, logprob=logprob, sure=float(p[i]))
            if chosen is not None:
                answer.conformal_set, answer.coverage = [encoder.value(int(k)) for k in chosen], coverage
            answers.append(answer)
        return answers

    def _sets(self, p: np.ndarray, coverages: list[float]) -> list[tuple[float, np.ndarray | None]]:
        """Each row's coverage, and the classes of its conformal set; None where there is none."""
        made = self.calibration
        if made is None or not made.scores or self.encoder.multi:
            return [(coverage, None) for coverage in coverages]
        rounded = [round(coverage, 6) for coverage in coverages]  # they were float32
        thresholds = {coverage: made.threshold(coverage) for coverage in set(rounded)}
        scores = class_scores(p.astype(np.float64), self.encoder.ordered)
        out: list[tuple[float, np.ndarray | None]] = []
        for row, coverage in zip(scores, rounded, strict=True):
            threshold = thresholds[coverage]  # too few rows for so much: all of them
            out.append((coverage, np.flatnonzero(row <= (np.inf if threshold is None else threshold + _SAME))))
        return out
