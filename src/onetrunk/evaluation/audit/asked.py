"""The rows whose answers of one column can be judged, and what the model says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import History, class_names
from onetrunk.core.errors import DataError
from onetrunk.core.evaluation import Evaluation, JudgedByLikelihood
from onetrunk.evaluation.baselines import before_and_then, usable
from onetrunk.evaluation.drawn import drawn_answers
from onetrunk.evaluation.gather import Columns, JudgedModel
from onetrunk.evaluation.judge import Judge


@dataclass
class AskedRows:
    """`rows` int64 [n] are those of the table that hold a truth; `columns` and `truths` are of them alone."""

    model: JudgedModel
    ask: str
    given: list[str]
    rows: np.ndarray
    columns: dict[str, list[Any]]
    truths: list[Any]

    @classmethod
    def of(cls, model: JudgedModel, table: Columns, ask: str, given: Sequence[str]) -> AskedRows:
        """Raises DataError where no row has a truth."""
        before, then = before_and_then(model.encoder(ask), table.get(ask, []))
        rows = usable(model.evaluation(ask), then)
        if not rows:
            raise DataError(f"No row has a usable value of {ask!r}, so answers of it cannot be judged.")
        columns = {name: [table[name][i] for i in rows] for name in given if name in table}
        if any(before[i] is not None for i in rows):
            columns[ask] = [before[i] for i in rows]
        return cls(model, ask, list(given), np.array(rows), columns, [then[i] for i in rows])

    @property
    def evaluation(self) -> Evaluation[Any]:
        return self.model.evaluation(self.ask)

    @property
    def classes(self) -> list[str] | None:
        """Of a closed set of which one is answered; None of anything else."""
        names = class_names(self.model.encoder(self.ask))
        return None if names is None or self.evaluation.target(self.truths[:1]).ndim > 1 else names

    @property
    def is_written_from_nothing(self) -> bool:
        """Answers could not be right: how likely true values are is what can be judged (a language model)."""
        from_nothing = not any(name in self.columns for name in self.given)
        history = isinstance(self.model.encoder(self.ask), History)
        return from_nothing and not history and isinstance(self.evaluation, JudgedByLikelihood)

    def take(self, rows: np.ndarray) -> AskedRows:
        """These of the rows, by their number here."""
        columns = {name: [values[i] for i in rows] for name, values in self.columns.items()}
        truths = [self.truths[i] for i in rows]
        return AskedRows(self.model, self.ask, self.given, self.rows[rows], columns, truths)

    def answers(self, columns: Mapping[str, Sequence[Any]] | None = None) -> list[Answer]:
        """Of these rows, or of what became of their columns."""
        chosen = self.columns if columns is None else columns
        asked = chosen or {self.ask: [None] * len(self.truths)}
        return drawn_answers(self.model, self.evaluation, asked, self.ask, self.given)

    def judged(self, answers: Sequence[Answer], seed: int) -> Judge:
        return Judge(self.evaluation, answers, self.truths, self.measured(answers), seed)

    def measured(self, answers: Sequence[Answer]) -> dict[str, float | None]:
        return self.evaluation.measure(answers, self.truths)

    def names_of(self, values: Sequence[Any]) -> np.ndarray:
        """Of a closed set, the names of classes."""
        return np.asarray(self.evaluation.target(list(values)))
