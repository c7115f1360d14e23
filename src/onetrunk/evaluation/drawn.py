"""Answers that are drawn, such as pictures: several to each row, and what a simple model reads in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.baselines.model_selection import TooLong
from onetrunk.columns.families.baselines.views import Views
from onetrunk.core.answer import Answer
from onetrunk.core.encoder import class_names
from onetrunk.core.evaluation import Evaluation
from onetrunk.data.store import Store
from onetrunk.evaluation.baselines import usable

_READER_SECONDS = 20.0


def drawn_answers(
    model: Any,
    evaluation: Evaluation[Any],
    columns: Mapping[str, Sequence[Any]],
    ask: str,
    given: Sequence[str],
    encoded: Store | None = None,
) -> list[Answer]:
    """One answer a row; where they are drawn it has as many `samples` as are judged together, itself the first.
    `encoded` are the same rows, where the model has encoded them before."""
    if evaluation.draws == 1:
        single: list[Answer] = model.answer(columns, ask, given, encoded=encoded)
        return single
    several = {name: list(values) * evaluation.draws for name, values in columns.items()}
    if encoded is not None:
        encoded = encoded.take(np.tile(np.arange(len(encoded.index)), evaluation.draws))
    answers: list[Answer] = model.answer(several, ask, given, encoded=encoded)
    n = len(answers) // evaluation.draws
    for i, answer in enumerate(answers[:n]):
        answer.samples = [other.value for other in answers[i::n]]
    return answers[:n]


def readings(
    model: Any,
    ask: str,
    train: Mapping[str, Sequence[Any]],
    held_out: Mapping[str, Sequence[Any]],
    answers: Sequence[Answer],
    truths: Sequence[Any],
) -> dict[str, float | None]:
    """In what share of the answers, and of the true values, a logistic regression that learnt from the training rows
    reads the class that was given. Empty where no class was given, or it could not learn in its time."""
    asked = model.evaluation(ask)
    for name, values in held_out.items():
        if name not in train or not class_names(model.encoder(name)):
            continue
        evaluation = model.evaluation(name)
        pairs = [(train[ask][i], train[name][i]) for i in usable(asked, train[ask]) if train[name][i] is not None]
        rows = usable(evaluation, [label for _, label in pairs])
        true = usable(evaluation, values)
        if not rows or not true:
            return {}
        labels = evaluation.target([pairs[i][1] for i in rows])
        right = evaluation.target([values[i] for i in true])
        if labels.ndim > 1:  # several classes a row
            continue
        views = asked.views()

        def seen(of: Sequence[Any], learn: bool = False, views: dict[str, Any] = views) -> Views:
            blocks = {key: each.fit_transform(of) if learn else each.transform(of) for key, each in views.items()}
            return Views.joined([blocks], len(of))

        from onetrunk.columns.families.baselines.linear import LinearClassifier  # scikit-learn takes a while

        reader = LinearClassifier(seconds=_READER_SECONDS)
        try:
            reader.fit(seen([pairs[i][0] for i in rows], learn=True), labels)
        except (TooLong, ValueError):  # such as one class only
            return {}
        both = {"read_right": [answers[i].value for i in true], "read_right_of_true": [truths[i] for i in true]}
        return {key: float(np.mean(reader.predict(seen(of)) == right)) for key, of in both.items()}
    return {}
