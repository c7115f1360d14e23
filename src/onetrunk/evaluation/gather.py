"""Asks a model for the answers that held-out rows hold, and judges it beside its baselines."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder, History, class_names, reads_on
from onetrunk.core.errors import DataError
from onetrunk.core.evaluation import Drawn, Evaluation, JudgedByLikelihood
from onetrunk.core.events import Listener, ignore
from onetrunk.data.store import Store
from onetrunk.engine.cost import Meter
from onetrunk.evaluation import figures, intervals
from onetrunk.evaluation.baselines import BASELINE_SECONDS, Baseline, before_and_then, run_baselines, usable
from onetrunk.evaluation.certainty import abstention, reliability, sureness
from onetrunk.evaluation.drawn import drawn_answers, readings
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.judge import METRIC_RESAMPLES, Judge
from onetrunk.evaluation.labels_curve import labels_curve
from onetrunk.evaluation.language import speaking
from onetrunk.evaluation.leaks import nearly_learnt, telling_columns
from onetrunk.evaluation.likelihood import judge_likelihood
from onetrunk.evaluation.record import BaselineResult, Display, Evidence, Origin, Sample, TaskEvidence
from onetrunk.metrics.classification import ece

_MOST_LOOKED_AT = 200  # rows among which the worst is sought
_MOST_CHARACTERS = 600  # of a sample
_DIGITS = 5  # of a fraction in a sample
_FEWEST_EXACT = 0.05  # below, answers are near or far rather than right or wrong

Columns = Mapping[str, Sequence[Any]]
# Name to a model, and its asked columns to given ones.
Beside = Mapping[str, tuple["JudgedModel", Mapping[str, Sequence[str]]]]
_Group = tuple[str, bool | None, np.ndarray]  # heading, whether these are right, rows


class JudgedModel(Protocol):
    """What evidence needs of a model. Missing values are None."""

    def encoder(self, column: str) -> Encoder: ...

    def evaluation(self, column: str) -> Evaluation[Any]: ...

    def answer(
        self, columns: Columns, ask: str, given: Sequence[str], *, encoded: Store | None = None
    ) -> list[Answer]: ...

    def losses(
        self, columns: Columns, ask: str, given: Sequence[str], encoded: Store | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...


def gather_evidence(
    model: JudgedModel,
    test: Columns,
    tasks: Sequence[tuple[Sequence[str], str]],
    *,
    encoded: Store | None = None,
    train: Columns | None = None,
    beside: Beside | None = None,
    name: str = "model",
    origin: Origin | None = None,
    histories: Mapping[str, Sequence[dict[str, Any]]] | None = None,
    seed: int = 0,
    samples: int = 6,
    baseline_seconds: float = BASELINE_SECONDS,
    fitted_baselines: Mapping[str, Mapping[str, Baseline]] | None = None,
    meter: Meter | None = None,
    language: str = "en",
    with_labels_curve: bool = False,
    on_event: Listener = ignore,
) -> Evidence:
    """Evidence for each (given, ask) on the held-out rows.

    `encoded` are the held-out rows, where the model has encoded them before. `train` holds the training rows, for the
    simple baselines (None: none). Models `beside` are compared like baselines in what they are asked too, unless it is
    judged by its likelihood. `histories` are the records of metrics.jsonl by stage, for the curves. `samples` rows of
    each kind are kept to be shown. The baselines of a task take at most about `baseline_seconds`; `fitted_baselines`
    of each asked column have answered these rows before. `meter` counts what answers cost. `on_event` hears of each.
    Charts speak the `language` of the report. Raises DataError when no row has a truth.
    """
    evidence = Evidence(name, [], origin or Origin(seed=seed), language=language)
    with speaking(language):
        return _gathered(
            evidence, model, test, tasks, encoded, train, beside or {}, histories or {}, seed, samples,
            baseline_seconds, fitted_baselines or {}, meter or Meter(), with_labels_curve, on_event,
        )  # fmt: skip


def _gathered(
    evidence: Evidence,
    model: JudgedModel,
    test: Columns,
    tasks: Sequence[tuple[Sequence[str], str]],
    encoded: Store | None,
    train: Columns | None,
    beside: Beside,
    histories: Mapping[str, Sequence[dict[str, Any]]],
    seed: int,
    samples: int,
    baseline_seconds: float,
    fitted_baselines: Mapping[str, Mapping[str, Baseline]],
    meter: Meter,
    with_labels_curve: bool,
    on_event: Listener,
) -> Evidence:
    for stage, records in histories.items():
        evidence.figures |= _named(f"curves-{_slug(stage)}", figures.curves(records))
        evidence.figures |= _named(f"validation-{_slug(stage)}", figures.validation(records))
    evidence.figures |= _named("trials", figures.trials(evidence.origin.trials))
    for number, (given, ask) in enumerate(tasks):
        task, answers_figure = _evaluate_task(
            model, test, encoded, list(given), ask, train, beside, seed, samples, baseline_seconds,
            fitted_baselines.get(ask, {}), meter, with_labels_curve, on_event,
        )  # fmt: skip
        task.label = f"{number + 1}-{_slug(ask)}"
        evidence.tasks.append(task)
        with speaking("en"):  # it is the model card's, too
            evidence.figures |= _named(f"comparison-{task.label}", figures.comparison(task))
        evidence.figures |= _named(f"reliability-{task.label}", figures.reliability(task))
        evidence.figures |= _named(f"abstention-{task.label}", figures.abstention(task))
        evidence.figures |= _named(f"labels-{task.label}", figures.labels_curve(task))
        evidence.figures |= _named(f"answers-{task.label}", answers_figure)
    return evidence


def _evaluate_task(
    model: JudgedModel,
    test: Columns,
    encoded: Store | None,
    given: list[str],
    ask: str,
    train: Columns | None,
    beside: Beside,
    seed: int,
    n_samples: int,
    baseline_seconds: float,
    fitted_baselines: Mapping[str, Baseline],
    meter: Meter,
    with_labels_curve: bool,
    on_event: Listener,
) -> tuple[TaskEvidence, dict[str, bytes]]:
    encoder, evaluation = model.encoder(ask), model.evaluation(ask)
    before, then = before_and_then(encoder, test.get(ask, []))
    rows = usable(evaluation, then)
    if not rows:
        raise DataError(f"No held-out row has a usable value of {ask!r}, so the model cannot be judged on it.")
    truths = [then[i] for i in rows]
    if encoded is not None:
        encoded = encoded.take(np.array(rows))
    from_nothing = not isinstance(encoder, History) and not any(name in test for name in given)
    if from_nothing and isinstance(evaluation, JudgedByLikelihood):
        values = [test[ask][i] for i in rows]
        task = judge_likelihood(
            model, evaluation, ask, values, None if train is None else train.get(ask), seed, n_samples, encoded
        )
        task.without_truth = len(test[ask]) - len(rows)
        return task, {}
    held_out = {name: [test[name][i] for i in rows] for name in given if name in test}
    if any(before[i] is not None for i in rows):
        held_out[ask] = [before[i] for i in rows]
    began = time.perf_counter()
    asked = held_out or {ask: [None] * len(rows)}  # also from nothing: one a row
    meter.lap()
    answers = drawn_answers(model, evaluation, asked, ask, given, encoded)
    cost = meter.lap().times(1000 / (len(rows) * evaluation.draws))
    seconds = (time.perf_counter() - began) / evaluation.draws
    metrics = _floats(evaluation.measure(answers, truths))
    judge = Judge(evaluation, answers, truths, metrics, seed)
    score, draws = judge(answers, metrics)
    learnt = [] if train is None else [train[ask][i] for i in usable(evaluation, train.get(ask, []))]
    if learnt and isinstance(evaluation, Drawn):
        metrics |= _floats(evaluation.novelty(answers, truths, learnt))
    if learnt and train is not None and evaluation.draws > 1:
        metrics |= _floats(readings(model, ask, train, held_out, answers, truths))
    task = TaskEvidence(
        ask=ask,
        given=given,
        rows=len(rows),
        without_truth=len(test[ask]) - len(rows),
        metric=judge.metric,
        higher_is_better=judge.higher_is_better,
        metrics=metrics,
        score=score,
        classes=_per_class(encoder, evaluation, answers, truths),
        seconds=seconds,
        unit=judge.unit,
        ece=_ece(answers, truths, evaluation, metrics, seed),
        cost=cost.as_json(),
    )
    if train is not None and ask in train:
        seen, answered = before_and_then(encoder, train[ask])
        known = {name: seen if name == ask else train[name] for name in held_out if name in train}
        evaluations = {name: model.evaluation(name) for name in known}
        baselines = run_baselines(
            evaluations, evaluation, known, held_out, answered, truths,
            seconds=baseline_seconds, known=fitted_baselines, on_event=on_event, name=ask,
        )  # fmt: skip
        task.baselines = [_result(name, baseline, judge, score, draws) for name, baseline in baselines.items()]
        task.leaks = _leaks(model, ask, known, held_out, answered, truths, judge, answers)
        if with_labels_curve and task.best is not None:
            task.labels_curve = labels_curve(
                task.best.name, evaluations, evaluation, known, held_out, answered, truths, judge, baseline_seconds
            )
    task.reliability, task.abstention = _certainty(encoder, evaluation, answers, truths, judge)
    for name, (other, tasks) in beside.items():
        if ask in tasks:
            known = {n: [test[n][i] for i in rows] for n in tasks[ask] if n in test}
            known |= {ask: held_out[ask]} if ask in held_out else {}
            theirs = _answered(other, model, known, ask, tasks[ask], truths)
            task.baselines.append(_result(name, theirs, judge, score, draws))
    shows = {name: (model.encoder(name), values) for name, values in held_out.items()}
    task.samples = _samples(encoder, answers, truths, shows, judge, n_samples)
    seen_before = held_out[ask] if isinstance(encoder, History) else None
    return task, figures.render(lambda axes: evaluation.figure(answers, truths, axes, before=seen_before), (6.4, 5.4))


def _ece(
    answers: Sequence[Answer],
    truths: Sequence[Any],
    evaluation: Evaluation[Any],
    metrics: Mapping[str, float | None],
    seed: int,
) -> Interval | None:
    """The interval of the calibration error, where that is one of the metrics."""
    value, right = metrics.get("ece"), evaluation.rightness(answers, truths)
    sure = [_confidence(answer) for answer in answers]
    if value is None or right is None or None in sure:
        return None
    confidence = np.array(sure, dtype=np.float64)
    draws = intervals.metric_draws(
        lambda index: ece(confidence[index], right[index]), len(right), METRIC_RESAMPLES, seed
    )
    return intervals.interval(value, draws)


def _certainty(
    encoder: Encoder, evaluation: Evaluation[Any], answers: Sequence[Answer], truths: Sequence[Any], judge: Judge
) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
    """How often answers are right beside how sure they are, and the metric of the surest ones."""
    sure = sureness(encoder, answers)
    if sure is None:
        return [], []
    right = evaluation.rightness(answers, truths)
    of_classes = right is not None and bool((sure >= 0).all())
    return reliability(sure, right) if right is not None and of_classes else [], abstention(judge, answers, sure)


def _leaks(
    model: JudgedModel,
    ask: str,
    known: Columns,
    held_out: Columns,
    answered: Sequence[Any],
    truths: Sequence[Any],
    judge: Judge,
    answers: Sequence[Answer],
) -> dict[str, Any] | None:
    """What the held-out rows give away, beside the training rows; and the metric without rows nearly learnt."""
    given = {name: values for name, values in held_out.items() if name != ask}
    encoders = {name: model.encoder(name) for name in [*given, ask]}
    near = nearly_learnt(encoders, known, given)
    if near is None:
        return None
    others = np.flatnonzero(~near)
    return {
        "nearly_learnt": int(near.sum()),
        "others": judge.at(answers, others) if near.any() and len(others) else None,
        "telling_columns": telling_columns(encoders, ask, known, given, answered, truths),
    }


def _answered(
    other: JudgedModel, model: JudgedModel, columns: Columns, ask: str, given: Sequence[str], truths: Sequence[Any]
) -> Baseline:
    """Another model's answers to the same rows, judged alike."""
    if class_names(other.encoder(ask)) != class_names(model.encoder(ask)):
        return Baseline(note=f"knows other classes of {ask}")
    began = time.perf_counter()
    evaluation = model.evaluation(ask)
    answers = drawn_answers(other, evaluation, columns or {ask: [None] * len(truths)}, ask, given)
    return Baseline(answers, evaluation.measure(answers, truths), time.perf_counter() - began)


def _result(name: str, run: Baseline, judge: Judge, ours: Interval | None, draws: np.ndarray) -> BaselineResult:
    baseline = BaselineResult(name, seconds=run.seconds, note=run.note)
    if run.answers is None or run.metrics is None:
        return baseline
    baseline.metrics = _floats(run.metrics)
    baseline.score, theirs = judge(run.answers, baseline.metrics)
    if ours is not None and baseline.score is not None:
        sign = 1 if judge.higher_is_better else -1
        baseline.lead = intervals.interval(sign * (ours.value - baseline.score.value), sign * (draws - theirs))
    return baseline


def _per_class(
    encoder: Encoder, evaluation: Evaluation[Any], answers: Sequence[Answer], truths: Sequence[Any]
) -> list[dict[str, Any]]:
    from onetrunk.metrics.classification import per_class

    classes = class_names(encoder)
    target = evaluation.target(truths)
    if classes is None or target.ndim > 1:  # not a closed set, or several labels a row
        return []
    index = {name: i for i, name in enumerate(classes)}
    table = per_class(target, evaluation.target([answer.value for answer in answers]))
    return sorted(table, key=lambda row: index.get(row["class"], len(index)))


# -- samples -----------------------------------------------------------------------------------------------
def _samples(
    encoder: Encoder,
    answers: Sequence[Answer],
    truths: Sequence[Any],
    given: Mapping[str, tuple[Encoder, Sequence[Any]]],
    judge: Judge,
    n: int,
) -> list[Sample]:
    """Right and wrong ones where there is such a thing, else typical and furthest ones."""
    order = rng.permutation(rng.key(judge.seed, "samples"), len(answers))
    groups = _right_and_wrong(encoder, answers, truths, judge, order) or _near_and_far(answers, judge, order)

    on = reads_on(encoder)
    beside = None if on is None else given.get(on)  # answers that lie in a given value are shown in it

    def display(value: Any, i: int) -> Display:
        return _display(encoder, value, None if beside is None else beside[1][i])

    def sample(group: str, right: bool | None, i: int) -> Sample:
        values = {
            name: None if column[i] is None else _display(source, column[i]) for name, (source, column) in given.items()
        }
        truth, answer = display(truths[i], i), display(answers[i].value, i)
        ends = answers[i].interval
        between = [display(end, i) for end in ends] if ends else None
        return Sample(group, values, truth, answer, right, _confidence(answers[i]), between)

    return [sample(group, right, int(i)) for group, right, index in groups for i in index[:n]]


def _right_and_wrong(
    encoder: Encoder, answers: Sequence[Answer], truths: Sequence[Any], judge: Judge, order: np.ndarray
) -> list[_Group]:
    if judge.each is not None and np.isin(judge.each, (0.0, 1.0)).all():
        exact = judge.each == judge.higher_is_better
    else:
        pairs = zip(answers, truths, strict=True)
        exact = np.array([encoder.fingerprint(a.value) == encoder.fingerprint(t) for a, t in pairs])
    if exact.mean() < _FEWEST_EXACT:
        return []
    wrong = order[~exact[order]]
    confidence = np.array([_confidence(answers[i]) or 0.0 for i in wrong])
    return [
        ("Right", True, order[exact[order]]),
        ("Wrong, the most confident first", False, wrong[np.argsort(-confidence, kind="stable")]),
    ]


def _near_and_far(answers: Sequence[Answer], judge: Judge, order: np.ndarray) -> list[_Group]:
    looked_at = order[:_MOST_LOOKED_AT]
    metrics = [judge.at(answers, np.array([i])) for i in looked_at]
    if None in metrics or len(set(metrics)) < 2:
        return [("Some answers", None, order)]
    worse = np.array(metrics) * (-1 if judge.higher_is_better else 1)
    by_worse = looked_at[np.argsort(-worse, kind="stable")]
    middle = looked_at[np.argsort(np.abs(worse - np.median(worse)), kind="stable")]
    return [("Typical", None, middle), ("Furthest from the truth", None, by_worse)]


def _confidence(answer: Answer) -> float | None:
    """The probability of the answered value; None for several labels at once and for numbers."""
    p = answer.probability
    if isinstance(p, dict):
        return None if isinstance(answer.value, list | tuple | set) or not p else answer.certainty
    return None if p is None else float(p)


def _display(encoder: Encoder, value: Any, on: Any = None) -> Display:
    value = _short(value) if isinstance(value, float) else value
    display = encoder.show(value, on)
    text = display.get("text", "")
    return {**display, "text": text[:_MOST_CHARACTERS] + " …"} if len(text) > _MOST_CHARACTERS else display


def _short(value: float) -> float:
    """Without decimals that nobody reads; what stands before the point is kept."""
    whole = math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
    return round(value, max(0, _DIGITS - 1 - whole))


def _floats(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None or not np.isfinite(value) else float(value) for name, value in metrics.items()}


def _named(name: str, pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name + suffix: png for suffix, png in pictures.items()}


def _slug(name: str) -> str:
    """A name that is safe as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "column"
