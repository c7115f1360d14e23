"""Evaluation of columns asked from nothing (language models): how likely the true values are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onetrunk.core.encoder import Encoder
from onetrunk.core.evaluation import JudgedByLikelihood
from onetrunk.data.store import Store
from onetrunk.evaluation import intervals
from onetrunk.evaluation.record import BaselineResult, Sample, TaskEvidence

_RESAMPLES = 200
_MOST_CHARACTERS = 600


def judge_likelihood(
    model: Any,
    evaluation: JudgedByLikelihood,
    ask: str,
    truths: Sequence[Any],
    train: Sequence[Any] | None,
    seed: int,
    n_samples: int,
    encoded: Store | None = None,
) -> TaskEvidence:
    """Evidence of a column without anything given. `encoded` holds the truths, where they were encoded before."""
    began = time.perf_counter()
    nats, tokens = model.losses({ask: truths}, ask, [], encoded)
    seconds = time.perf_counter() - began
    metrics = evaluation.likelihood(nats, tokens, truths)
    metric = next(iter(metrics))

    def judged(mine: np.ndarray) -> tuple[intervals.Interval | None, np.ndarray]:
        draws = intervals.metric_draws(_main(evaluation, metric, mine, tokens, truths), len(truths), _RESAMPLES, seed)
        return intervals.interval(evaluation.likelihood(mine, tokens, truths)[metric], draws), draws

    score, draws = judged(nats)
    task = TaskEvidence(ask, [], len(truths), 0, metric, False, metrics, score, seconds=seconds)
    known = [value for value in train or [] if value is not None]
    for name, theirs in evaluation.likelihood_baselines(known, truths).items() if known else ():
        baseline = BaselineResult(name, {metric: evaluation.likelihood(theirs, tokens, truths)[metric]})
        baseline.score, drawn = judged(theirs)
        if score is not None and baseline.score is not None:
            baseline.lead = intervals.interval(baseline.score.value - score.value, drawn - draws)
        task.baselines.append(baseline)
    task.samples = _samples(model.encoder(ask), ask, truths, nats, tokens, n_samples)
    return task


def _main(
    evaluation: JudgedByLikelihood, metric: str, nats: np.ndarray, tokens: np.ndarray, truths: Sequence[Any]
) -> Callable[[np.ndarray], float | None]:
    return lambda index: evaluation.likelihood(nats[index], tokens[index], [truths[i] for i in index])[metric]


def _samples(
    encoder: Encoder, ask: str, truths: Sequence[Any], nats: np.ndarray, tokens: np.ndarray, n: int
) -> list[Sample]:
    """Values of middling likelihood, and the least likely ones."""
    each = nats / np.maximum(tokens, 1)
    typical = np.argsort(np.abs(each - np.median(each)), kind="stable")[:n]
    strange = np.argsort(-each, kind="stable")[:n]

    def sample(group: str, i: int) -> Sample:
        display = {kind: text[:_MOST_CHARACTERS] for kind, text in encoder.show(truths[i]).items()}
        return Sample(group, {ask: display}, {}, {"text": f"{each[i] / math.log(2):.2f} bits a token"})

    groups = (("Typical", typical), ("Least likely", strange))
    return [sample(group, int(i)) for group, index in groups for i in index]
