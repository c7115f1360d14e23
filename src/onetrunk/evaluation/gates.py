"""Gates: bounds that a model must keep before it is exported or served. They stand in the recipe (`gates:`), travel in
the folder's provenance, and are compared with its evidence.

    gates:
      accuracy: 0.9                # of every asked column that has it: at least, or at most where less is better
      price: {rmse: 12}            # of one column
      worst_group: 0.8             # of the main metric, in every group that an audit looked at
      training_kwh: 1              # of all runs that made it
    epsilon: 3                   # of private training (--private); a model that was not has none, and fails
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onetrunk.core.encoder import class_names
from onetrunk.core.errors import EvidenceError, UsageError, nearest
from onetrunk.core.evaluation import Evaluation, JudgedByLikelihood
from onetrunk.core.metric import Metric
from onetrunk.evaluation.language import say
from onetrunk.evaluation.record import Evidence, TaskEvidence, Verdict
from onetrunk.evaluation.words import amount, word

Gates = dict[str, float | dict[str, float]]

WORST_GROUP = "worst_group"  # the main metric of the group that fares worst, which has the main metric's direction
EXPOSURE = Metric("exposure", False, "bits")  # of the planted secret that is given away most
WORST_CLASS = Metric("worst_class_recall", True)  # of the class that is recognised worst
ANSWERS_WH = Metric("wh_per_1000_answers", False, "Wh")
TRAINING_KWH = Metric("training_kwh", False, "kWh")  # of the whole model, not of a column
EPSILON = Metric("epsilon", False)  # of private training, of the whole model
_WHOLE = {metric.name: metric for metric in (TRAINING_KWH, EPSILON)}


@dataclass(frozen=True)
class _Gate:
    """`ask` is empty where the gate is of the whole model."""

    metric: Metric
    ask: str
    bound: float


def check_gates(gates: Gates, evaluations: Mapping[str, Evaluation[Any]]) -> None:
    """Raises UsageError, before any work, where a gate is of a column that is not asked, or of a metric that it has
    not."""
    list(_opened(gates, evaluations))


def gates_of(provenance: Mapping[str, Any]) -> tuple[Gates, list[str]]:
    """Those of the last stage that had some, and the columns that it asked: a later stage that says nothing of gates
    takes none away."""
    for stage in reversed(provenance.get("stages", [])):
        if gates := stage.get("config", {}).get("gates"):
            return gates, stage["ask"]
    return {}, []


def judge_gates(
    gates: Gates,
    evidence: Evidence,
    evaluations: Mapping[str, Evaluation[Any]],
    audit: Mapping[str, Any] | None = None,
) -> list[Verdict]:
    """What the evidence, and what `audit` left (audit.json), say of each gate. A figure that is not there has not kept
    its bound."""
    audited = {asked["ask"]: asked for asked in (audit or {}).get("asked", [])}
    tasks = {task.ask: task for task in evidence.tasks}
    out = []
    for gate in _opened(gates, evaluations):
        if gate.metric == EPSILON:
            value = None if evidence.origin.private is None else float(evidence.origin.private["epsilon"])
        elif not gate.ask:
            value = _training_kwh(evidence)
        elif gate.metric.name in (WORST_GROUP, EXPOSURE.name):
            value = _audited(gate.metric, audited.get(gate.ask))
        else:
            value = _figure(gate.metric, tasks.get(gate.ask))
        kept = value is not None and not gate.metric.better(gate.bound, value)
        out.append(Verdict(gate.metric.name, gate.ask, gate.bound, gate.metric.higher_is_better, value, kept))
    return out


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.passed]


def refusal(verdicts: Sequence[Verdict], name: str, doing: str) -> EvidenceError:
    """The error of a model that does not keep its gates."""
    which = "; ".join(map(gate_sentence, verdicts))
    return EvidenceError(
        f"{name} does not keep its gates, so it is not {doing}: {which}. Train it better, measure what is not measured "
        "(onetrunk evaluate), or do it all the same: --allow-failed-gates. The model card then says so."
    )


def gate_sentence(verdict: Verdict) -> str:
    """`accuracy of label is 81.0 %, expected at least 90.0 %`"""
    label = word(verdict.metric).label
    what = say("{label} of {ask}", label=label, ask=verdict.ask) if verdict.ask else label
    found = say("not measured") if verdict.value is None else amount(verdict.metric, verdict.value)
    parts = {"what": what, "found": found, "bound": amount(verdict.metric, verdict.bound)}
    if verdict.at_least:
        return say("{what} is {found}, expected at least {bound}", **parts)
    return say("{what} is {found}, expected at most {bound}", **parts)


def _opened(gates: Gates, evaluations: Mapping[str, Evaluation[Any]]) -> Iterator[_Gate]:
    """Each gate of each column."""
    known = {ask: _metrics(evaluation) for ask, evaluation in evaluations.items()}
    for name, bound in gates.items():
        if isinstance(bound, dict):
            if name not in known:
                raise UsageError(f"gates.{name} is of a column that is not asked.{nearest(name, known)}")
            for metric, own in bound.items():
                if metric not in known[name]:
                    raise UsageError(f"gates.{name}: {name} has no metric {metric!r}.{nearest(metric, known[name])}")
                yield _Gate(known[name][metric], name, own)
        elif name in _WHOLE:
            yield _Gate(_WHOLE[name], "", bound)
        else:
            having = [ask for ask, metrics in known.items() if name in metrics]
            if not having:
                every = {metric for metrics in known.values() for metric in metrics} | {*_WHOLE}
                of = f"no asked column ({', '.join(known)})" if known else "there is no asked column that"
                raise UsageError(f"gates.{name}: {of} has such a metric.{nearest(name, every)}")
            for ask in having:
                yield _Gate(known[ask][name], ask, bound)


def _metrics(evaluation: Evaluation[Any]) -> dict[str, Metric]:
    own = list(evaluation.metrics())
    if isinstance(evaluation, JudgedByLikelihood):
        own += evaluation.likelihood_metrics()
    worst_group = Metric(WORST_GROUP, own[0].higher_is_better, own[0].unit)
    by_name = {metric.name: metric for metric in [*own, ANSWERS_WH, EXPOSURE, worst_group]}
    one_class = "balanced_accuracy" in by_name and class_names(evaluation.encoder) is not None
    return by_name | ({WORST_CLASS.name: WORST_CLASS} if one_class else {})


def _figure(metric: Metric, task: TaskEvidence | None) -> float | None:
    if task is None:
        return None
    if metric == ANSWERS_WH:
        return None if task.cost is None else float(task.cost["wh"])
    if metric == WORST_CLASS:
        return min((float(row["recall"]) for row in task.classes if row["rows"]), default=None)
    return task.metrics.get(metric.name)


def _audited(metric: Metric, asked: Mapping[str, Any] | None) -> float | None:
    if asked is None:
        return None
    if metric.name == EXPOSURE.name:
        return max((float(each["exposure"]) for each in (asked["privacy"] or {}).get("canaries", [])), default=None)
    groups = [
        float(group["value"]["value"])
        for fairness in asked["fairness"]
        for each in fairness["metrics"]
        if each["name"] == asked["metric"] and not each["of"]
        for group in each["groups"]
        if group["value"] is not None
    ]
    return (min if metric.higher_is_better else max)(groups, default=None)


def _training_kwh(evidence: Evidence) -> float | None:
    runs = evidence.origin.runs
    return sum(float(run["wh"]) for run in runs) / 1000 if runs else None
