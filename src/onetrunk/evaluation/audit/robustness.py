"""How much worse do answers get when what is given gets worse? Every way that a column's type knows, at rising
severities, on the same rows; and missing cells, for any type (corruptions: Hendrycks and Dietterich, arXiv 1903.12261).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.events import Listener, Note, ignore
from onetrunk.core.perturbation import Draw, Perturbation, Perturbed
from onetrunk.evaluation import intervals
from onetrunk.evaluation.audit.asked import AskedRows
from onetrunk.evaluation.audit.record import Disturbed, Robustness
from onetrunk.evaluation.judge import Judge
from onetrunk.evaluation.language import called

MAX_ROWS = 500  # that are disturbed: every severity answers them anew
_MISSING = (0.1, 0.3, 0.6)
_OTHERS = 100  # values of the column that a change may use


def robustness(
    asked: AskedRows, answers: Sequence[Answer], seed: int = 0, on_event: Listener = ignore
) -> list[Robustness]:
    """What each way to disturb each given column does to the main metric of these rows, whose `answers` are those to
    the columns as they are. A way that changes no value (homophones in English) is left out."""
    judge = asked.judged(answers, seed)
    _, draws = judge(answers, asked.measured(answers))
    base = asked.measured(answers)[judge.metric]
    out = []
    for column, values in asked.columns.items():
        if column == asked.ask:
            continue
        evaluation = asked.model.evaluation(column)
        ways = evaluation.perturbations() if isinstance(evaluation, Perturbed) else ()
        for way in ways:
            steps = []
            for severity in way.severities:
                changed = disturbed(way, severity, values, rng.key(seed, column, way.name))
                share = _share_changed(values, changed)
                if share:
                    steps.append(
                        _measured(asked, judge, base, draws, {**asked.columns, column: changed}, severity, share)
                    )
            if steps:
                out.append(Robustness(column, way.name, way.what, way.unit, steps))
                on_event(Note(_said(out[-1], judge)))
    given = [name for name in asked.columns if name != asked.ask]
    if given:
        steps = []
        for share in _MISSING:
            columns, gone = without_cells(asked.columns, given, share, rng.key(seed, "missing cells"))
            steps.append(_measured(asked, judge, base, draws, columns, share, gone))
        out.append(Robustness("", "missing cells", "given values left out at random", "of all given values", steps))
        on_event(Note(_said(out[-1], judge)))
    return out


def disturbed(way: Perturbation, severity: float, values: Sequence[Any], key: int) -> list[Any]:
    """A column's values, each changed by a key of its own: the same at every severity, so that a stronger change goes
    on from a milder one. What is missing stays so."""
    there = [value for value in values if value is not None]
    chosen = rng.permutation(key, len(there))[:_OTHERS]
    others = [there[i] for i in chosen]
    keys = rng.mix(key, np.arange(len(values)))
    return [
        None if value is None else way.change(value, severity, Draw(int(keys[i]), others))
        for i, value in enumerate(values)
    ]


def without_cells(
    columns: Mapping[str, Sequence[Any]], given: Sequence[str], share: float, key: int
) -> tuple[dict[str, list[Any]], float]:
    """The columns with about this share of the given values left out, and the share that it was."""
    out = {name: list(values) for name, values in columns.items()}
    gone = there = 0
    for name in given:
        u = rng.uniform(rng.mix(rng.key(key, name), np.arange(len(out[name]))))
        there += sum(value is not None for value in out[name])
        gone += sum(value is not None and u[i] < share for i, value in enumerate(out[name]))
        out[name] = [None if u[i] < share else value for i, value in enumerate(out[name])]
    return out, gone / max(1, there)


def _share_changed(values: Sequence[Any], changed: Sequence[Any]) -> float:
    pairs = [(a, b) for a, b in zip(values, changed, strict=True) if a is not None]
    return sum(a is not b for a, b in pairs) / max(1, len(pairs))


def _measured(
    asked: AskedRows,
    judge: Judge,
    base: float | None,
    draws: np.ndarray,
    columns: Mapping[str, Sequence[Any]],
    severity: float,
    share: float,
) -> Disturbed:
    answers = asked.answers(columns)
    metrics = asked.measured(answers)
    score, theirs = judge(answers, metrics)
    value, lost = metrics[judge.metric], None
    if value is not None and base is not None:
        sign = 1 if judge.higher_is_better else -1
        lost = intervals.interval(sign * (base - value), sign * (draws - theirs))
    return Disturbed(severity, share, score, lost)


def severity_in_words(found: Robustness, value: float) -> str:
    """`5 % of the letters`, `10 dB below the recording`"""
    unit = called(found.unit)
    return f"{100 * value:g} % {unit}" if found.unit.startswith("of ") else f"{value:g} {unit}"


def _said(found: Robustness, judge: Judge) -> str:
    worst = found.steps[-1]
    value = "undefined" if worst.score is None else f"{worst.score.value:.3f}"
    where = f" of {found.column}" if found.column else ""
    return f"{found.name}{where}, {severity_in_words(found, worst.severity)}: {judge.metric} {value}."
