"""The simple baselines of a training run, fitted once: their figures on the validation rows stand on the screen before
the model is trained, and their answers to the test rows in its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onetrunk.core.answer import Answer
from onetrunk.core.events import Listener, ignore
from onetrunk.evaluation.baselines import Baseline, run_baselines, usable
from onetrunk.evaluation.gather import JudgedModel

Columns = Mapping[str, Sequence[Any]]


class FittedBaselines:
    """Of each (given, ask) the baselines; missing values of the rows are None."""

    def __init__(
        self,
        model: JudgedModel,
        tasks: Sequence[tuple[Sequence[str], str]],
        train: Columns,
        validation: Columns,
        test: Columns,
        on_event: Listener = ignore,
    ) -> None:
        self._by_ask = {ask: _FittedBaselines(model, given, ask, train, validation, test) for given, ask in tasks}
        self._on_event = on_event

    def fit(self, seconds: float) -> None:
        """Fits those that are not there yet, or for which there was no time before to try all that they may. The
        listener hears of their figures on the validation rows; of the test rows it hears nothing."""
        for baselines in self._by_ask.values():
            baselines.fit(seconds / len(self._by_ask), self._on_event)

    @property
    def complete(self) -> bool:
        return all(baselines.complete for baselines in self._by_ask.values())

    def on_test(self) -> dict[str, dict[str, Baseline]]:
        """Asked column to its baselines by name, with answers to the test rows that have a truth."""
        return {ask: baselines.on_test() for ask, baselines in self._by_ask.items()}


class _FittedBaselines:
    """Of one asked column. Every baseline answers the validation rows and then the test rows."""

    def __init__(
        self, model: JudgedModel, given: Sequence[str], ask: str, train: Columns, validation: Columns, test: Columns
    ) -> None:
        self.ask, self.evaluation = ask, model.evaluation(ask)
        validation_rows, test_rows = (usable(self.evaluation, rows[ask]) for rows in (validation, test))
        self.count = len(validation_rows)
        names = [name for name in given if name in train and name in validation and name in test]
        self.evaluations = {name: model.evaluation(name) for name in names}
        self.train, self.learnt = {name: train[name] for name in names}, train[ask]
        self.rows = {
            name: [validation[name][i] for i in validation_rows] + [test[name][i] for i in test_rows] for name in names
        }
        self.truths = [validation[ask][i] for i in validation_rows] + [test[ask][i] for i in test_rows]
        self.fitted: dict[str, Baseline] = {}

    @property
    def complete(self) -> bool:
        return all(name in self.fitted and not self.fitted[name].cut for name in self.evaluation.baselines())

    def fit(self, seconds: float, on_event: Listener) -> None:
        whole = {name: baseline for name, baseline in self.fitted.items() if not baseline.cut}
        again = run_baselines(
            self.evaluations, self.evaluation, self.train, self.rows, self.learnt, self.truths, seconds=seconds,
            known=whole, measure=self._on_validation, on_event=on_event, name=self.ask,
        )  # fmt: skip
        self.fitted |= {name: baseline for name, baseline in again.items() if baseline.answers is not None}

    def _on_validation(self, answers: Sequence[Answer]) -> dict[str, float | None]:
        return self.evaluation.measure(answers[: self.count], self.truths[: self.count]) if self.count else {}

    def on_test(self) -> dict[str, Baseline]:
        truths = self.truths[self.count :]
        out = {}
        for name, baseline in self.fitted.items():
            answers = (baseline.answers or [])[self.count :]
            out[name] = replace(baseline, answers=answers, metrics=self.evaluation.measure(answers, truths))
        return out
