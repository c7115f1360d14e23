"""The simple baselines of a training run, fitted once: their figures on the validation rows stand on the screen before
the model is trained, and their answers to the test rows in its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onetrunk.core.answer import Answer
from onetrunk.core.events import Listener, ignore
from onetrunk.evaluation.baselines import Baseline, run_baselines, usable
from onetrunk.evaluation.gather import Model

Columns = Mapping[str, Sequence[Any]]
Rivals = dict[str, dict[str, Baseline]]  # asked column -> name -> answers to the test rows that have a truth


def fit_rivals(
    model: Model,
    tasks: Sequence[tuple[Sequence[str], str]],
    train: Columns,
    validation: Columns,
    test: Columns,
    seconds: float,
    on_event: Listener = ignore,
) -> Rivals:
    """For each (given, ask) its baselines, as far as `seconds` allow; `on_event` hears of their figures on the
    validation rows (of the test rows it hears nothing). Missing values are None."""
    return {
        ask: _of_task(model, given, ask, train, validation, test, seconds / len(tasks), on_event)
        for given, ask in tasks
    }


def _of_task(
    model: Model,
    given: Sequence[str],
    ask: str,
    train: Columns,
    validation: Columns,
    test: Columns,
    seconds: float,
    on_event: Listener,
) -> dict[str, Baseline]:
    evaluation = model.evaluation(ask)
    shown, judged = (usable(evaluation, rows[ask]) for rows in (validation, test))
    truths = [validation[ask][i] for i in shown], [test[ask][i] for i in judged]
    names = [name for name in given if name in train and name in test]
    rows = {
        name: [*(validation[name][i] for i in shown), *(test[name][i] for i in judged)]
        for name in names
        if name in validation
    }

    def measure(answers: Sequence[Answer]) -> dict[str, float | None]:
        return evaluation.measure(answers[: len(shown)], truths[0]) if shown else {}

    found = run_baselines(
        {name: model.evaluation(name) for name in rows}, evaluation, {name: train[name] for name in rows}, rows,
        train[ask], [*truths[0], *truths[1]], seconds=seconds, measure=measure, on_event=on_event, name=ask,
    )  # fmt: skip
    return {
        name: Baseline(
            baseline.answers[len(shown) :],
            evaluation.measure(baseline.answers[len(shown) :], truths[1]),
            baseline.seconds,
            baseline.note,
        )
        for name, baseline in found.items()
        if baseline.answers is not None and not baseline.cut
    }
