"""What a model gives away of its training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.answer import Sampling
from onetrunk.core.encoder import Prompted
from onetrunk.core.errors import UsageError
from onetrunk.core.evaluation import Drawn, JudgedByLikelihood
from onetrunk.evaluation.audit.asked import AskedRows
from onetrunk.evaluation.audit.canaries import DIGIT, exposures
from onetrunk.evaluation.audit.copies import MAX_ROWS as MAX_DRAWN
from onetrunk.evaluation.audit.copies import copies
from onetrunk.evaluation.audit.membership import MAX_ROWS, membership
from onetrunk.evaluation.audit.one_run import one_run_bound
from onetrunk.evaluation.audit.record import Copies, Membership, Privacy
from onetrunk.evaluation.audit.repetition import repetition
from onetrunk.evaluation.audit.simple import difficulty
from onetrunk.evaluation.promise import promise_of
from onetrunk.inference.model_folder import Model

PLANTED = "planted"  # the column of canaries that says which of them training saw
_DELTA = 1e-5  # that a bound on epsilon is for, of a model that promises nothing
_TOKENS = 2  # of what is written, for each character that is compared: more than any tokenizer makes


def privacy(
    model: Model,
    ask: str,
    given: Sequence[str],
    learnt: Mapping[str, Sequence[Any]],
    others: Mapping[str, Sequence[Any]],
    canaries: Mapping[str, Sequence[Any]] | None = None,
    seed: int = 0,
) -> Privacy:
    """`learnt` are training rows, `others` rows that the model has never seen, of the same source; `canaries` are
    rows that were planted among the training rows; where they have a column `planted`, those of which it says no were
    left out, as a coin fell."""
    sides = [_sample(columns, ask, seed, name) for name, columns in (("learnt", learnt), ("others", others))]
    found = Privacy(promise=promise_of(model.provenance))
    if all(sides):
        members, strangers = (AskedRows.of(model, side, ask, given) for side in sides)
        found.membership = _membership(model, members, strangers, seed)
    if found.membership is None:
        found.note = "Membership was not tried: too few rows that are known to be learnt, or not learnt, have answers."
    if canaries is not None:
        _look_for_canaries(found, model, ask, given, canaries, seed)
    if isinstance(model.encoder(ask), Prompted) and isinstance(model.evaluation(ask), JudgedByLikelihood):
        texts = [[value for value in side.get(ask, []) if isinstance(value, str)] for side in sides]

        def write(beginnings: Sequence[str], length: int) -> list[str]:
            sampling = Sampling(max_length=_TOKENS * length)
            answers = model.answer({ask: list(beginnings)}, ask, [], sampling=sampling, prompted=True)
            return ["" if answer.written is None else answer.written.text for answer in answers]

        found.repetition = repetition(texts[0], texts[1], write)
    evaluation = model.evaluation(ask)
    if isinstance(evaluation, Drawn) and all(sides):
        found.copies = _copies(model, evaluation, members, strangers)
    return found


def _look_for_canaries(
    found: Privacy, model: Model, ask: str, given: Sequence[str], canaries: Mapping[str, Sequence[Any]], seed: int
) -> None:
    """How much planted texts are given away; and, where some were left out by chance, the least that epsilon can be."""
    planted = np.ones(len(canaries[ask]), dtype=bool)
    if PLANTED in canaries:
        planted = np.array([_said_yes(value) for value in canaries[PLANTED]])
        columns = {name: list(canaries[name]) for name in (*given, ask) if name in canaries}
        sums, counts = model.losses(columns, ask, [name for name in given if name in columns])
        delta = _DELTA if found.promise is None else found.promise["delta"]
        found.one_run = one_run_bound(-sums / np.maximum(counts, 1e-12), planted, delta)
    texts = [str(value) for value, is_in in zip(canaries[ask], planted, strict=True) if is_in]
    if PLANTED not in canaries or all(DIGIT.search(text) for text in texts):
        found.canaries = exposures(texts, lambda some: model.losses({ask: list(some)}, ask, [])[0], seed=seed)


def _said_yes(value: Any) -> bool:
    word = str(value).strip().lower()
    if word in ("true", "yes", "1", "1.0"):
        return True
    if word in ("false", "no", "0", "0.0"):
        return False
    raise UsageError(f"The canaries' column {PLANTED!r} expects yes or no, found {value!r:.60}.")


def _copies(model: Model, evaluation: Drawn, members: AskedRows, strangers: AskedRows) -> Copies | None:
    """Answers to rows that were not learnt, beside the training values; drawn, so that not all are the likeliest."""
    some = strangers.take(np.arange(min(len(strangers.truths), MAX_DRAWN)))
    columns = {name: values for name, values in some.columns.items() if name != some.ask}
    sampling = Sampling(temperature=1.0)
    asked = columns or {some.ask: [None] * len(some.truths)}
    answers = [each.value for each in model.answer(asked, some.ask, some.given, sampling=sampling)]
    return copies(
        [value for value in answers if value is not None],
        members.truths,
        strangers.truths,
        evaluation.nearest_known,
        model.encoder(some.ask).show,
    )


def _sample(columns: Mapping[str, Sequence[Any]], ask: str, seed: int, name: str) -> dict[str, list[Any]]:
    """At most so many of the rows that have a value of the asked column."""
    there = [i for i, value in enumerate(columns.get(ask, [])) if value is not None]
    chosen = [there[i] for i in rng.permutation(rng.key(seed, name), len(there))[:MAX_ROWS]]
    return {column: [values[i] for i in chosen] for column, values in columns.items()} if chosen else {}


def _membership(model: Model, members: AskedRows, others: AskedRows, seed: int) -> Membership | None:
    sides = [_known(side) for side in (members, others)]
    scores = [{"loss": -_losses(model, side)} for side in sides]
    if members.classes is not None and all(len(side.truths) for side in sides):
        hard = difficulty(_joined(*sides), seed)
        if hard is not None:
            n = len(sides[0].truths)
            for score, own in zip(scores, (hard[:n], hard[n:]), strict=True):
                score["loss, less how hard the row is"] = score["loss"] + own
    return membership(scores[0], scores[1], seed)


def _known(asked: AskedRows) -> AskedRows:
    """Without rows of classes that training never saw: of them the model has no loss."""
    if asked.classes is None:
        return asked
    names = asked.names_of(asked.truths)
    return asked.take(np.flatnonzero(np.isin(names, asked.classes)))


def _losses(model: Model, asked: AskedRows) -> np.ndarray:
    """Each row's mean loss of an element, float64 [n]."""
    columns = {**{name: asked.columns[name] for name in asked.given if name in asked.columns}, asked.ask: asked.truths}
    sums, counts = model.losses(columns, asked.ask, asked.given)
    return sums / np.maximum(counts, 1e-12)


def _joined(one: AskedRows, other: AskedRows) -> AskedRows:
    columns = {name: [*one.columns[name], *other.columns[name]] for name in one.columns if name in other.columns}
    rows = np.concatenate([one.rows, other.rows])
    return AskedRows(one.model, one.ask, one.given, rows, columns, [*one.truths, *other.truths])
