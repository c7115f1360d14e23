"""Fairness of the answers of one column, by the groups of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.evaluation.audit.asked import AskedRows
from onetrunk.evaluation.audit.fairness import class_rates, compare_means, compare_metric
from onetrunk.evaluation.audit.groups import Groups
from onetrunk.evaluation.audit.mitigation import EQUAL, by_thresholds, by_weights
from onetrunk.evaluation.audit.record import Fairness, GroupMetric, Mitigation
from onetrunk.evaluation.audit.simple import NAME, weighted_fit
from onetrunk.evaluation.judge import Judge


def fairness(asked: AskedRows, answers: Sequence[Answer], groups: Groups, seed: int = 0) -> Fairness:
    """The metric of the asked column in each group, and of classes how often each is answered, rightly and wrongly.
    Where there are two classes and a gap is larger than chance, what would make it smaller is measured."""
    judge = asked.judged(answers, seed)
    known = groups.of >= 0
    metrics = [_main(asked, answers, judge, groups, seed)]
    found = Fairness(
        groups.column, groups.how, groups.column in asked.columns, int(known.sum()), int((~known).sum()), metrics
    )
    if asked.classes is None:
        return found
    true, answered = (asked.names_of(values) for values in (asked.truths, [answer.value for answer in answers]))
    metrics += class_rates(true, answered, asked.classes, groups, seed)
    if len(asked.classes) == 2:
        found.mitigations = _mitigations(asked, answers, true, groups, metrics, seed)
    return found


def _main(asked: AskedRows, answers: Sequence[Answer], judge: Judge, groups: Groups, seed: int) -> GroupMetric:
    if judge.each is not None:
        return compare_means(judge.metric, "", judge.each, np.ones(len(judge.each), dtype=bool), groups, seed)
    return compare_metric(judge.metric, lambda rows: judge.at(answers, rows), groups, seed)


def _mitigations(
    asked: AskedRows,
    answers: Sequence[Answer],
    true: np.ndarray,
    groups: Groups,
    metrics: Sequence[GroupMetric],
    seed: int,
) -> list[Mitigation]:
    classes = asked.classes or []
    p = np.array([answer.of_classes[classes[1]] for answer in answers])
    wide = [metric.name for metric in metrics if metric.gap is not None and not metric.gap.is_chance]
    out = [by_thresholds(rate, p, true, classes, groups, seed) for rate in EQUAL if rate in wide]
    if EQUAL[0] in wide and (fit := weighted_fit(asked)) is not None:
        out.append(by_weights(EQUAL[0], fit, true, classes, groups, seed, NAME))
    return [each for each in out if each is not None]
