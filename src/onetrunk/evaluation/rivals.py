"""The simple baselines of a training run, fitted once: their figures on the validation rows stand on the screen before
the model is trained, and their answers to the test rows in its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onetrunk.core.answer import Answer
from onetrunk.core.events import Listener, ignore
from onetrunk.evaluation.baselines import Baseline, run_baselines, usable
from onetrunk.evaluation.gather import Model

Columns = Mapping[str, Sequence[Any]]


class Rivals:
    """Of each (given, ask) the baselines; missing values of the rows are None."""

    def __init__(
        self,
        model: Model,
        tasks: Sequence[tuple[Sequence[str], str]],
        train: Columns,
        validation: Columns,
        test: Columns,
        on_event: Listener = ignore,
    ) -> None:
        self._of = {ask: _Rivals(model, given, ask, train, validation, test) for given, ask in tasks}
        self._on_event = on_event

    def fit(self, seconds: float) -> None:
        """Fits those that are not there yet, or for which there was no time before to try all that they may. The
        listener hears of their figures on the validation rows; of the test rows it hears nothing."""
        for rivals in self._of.values():
            rivals.fit(seconds / len(self._of), self._on_event)

    @property
    def complete(self) -> bool:
        return all(rivals.complete for rivals in self._of.values())

    def on_test(self) -> dict[str, dict[str, Baseline]]:
        """Asked column to its baselines by name, with answers to the test rows that have a truth."""
        return {ask: rivals.on_test() for ask, rivals in self._of.items()}


class _Rivals:
    """Of one asked column. Every baseline answers the validation rows and then the test rows."""

    def __init__(
        self, model: Model, given: Sequence[str], ask: str, train: Columns, validation: Columns, test: Columns
    ) -> None:
        self.ask, self.evaluation = ask, model.evaluation(ask)
        shown, judged = (usable(self.evaluation, rows[ask]) for rows in (validation, test))
        self.count = len(shown)
        names = [name for name in given if name in train and name in validation and name in test]
        self.evaluations = {name: model.evaluation(name) for name in names}
        self.train, self.learnt = {name: train[name] for name in names}, train[ask]
        self.rows = {name: [validation[name][i] for i in shown] + [test[name][i] for i in judged] for name in names}
        self.truths = [validation[ask][i] for i in shown] + [test[ask][i] for i in judged]
        self.found: dict[str, Baseline] = {}

    @property
    def complete(self) -> bool:
        return all(name in self.found and not self.found[name].cut for name in self.evaluation.baselines())

    def fit(self, seconds: float, on_event: Listener) -> None:
        whole = {name: baseline for name, baseline in self.found.items() if not baseline.cut}
        again = run_baselines(
            self.evaluations, self.evaluation, self.train, self.rows, self.learnt, self.truths, seconds=seconds,
            known=whole, measure=self._on_validation, on_event=on_event, name=self.ask,
        )  # fmt: skip
        self.found |= {name: baseline for name, baseline in again.items() if baseline.answers is not None}

    def _on_validation(self, answers: Sequence[Answer]) -> dict[str, float | None]:
        return self.evaluation.measure(answers[: self.count], self.truths[: self.count]) if self.count else {}

    def on_test(self) -> dict[str, Baseline]:
        truths = self.truths[self.count :]
        out = {}
        for name, baseline in self.found.items():
            answers = (baseline.answers or [])[self.count :]
            out[name] = replace(baseline, answers=answers, metrics=self.evaluation.measure(answers, truths))
        return out
