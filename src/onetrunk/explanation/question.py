"""What is explained: one row, one asked column, and what of the model's answer.

P parts of all given columns together, in order; K outcomes that are explained, each by itself: one, or one for every
token that was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Content
from onetrunk.core.encoder import Encoder, Gapped, class_names, is_prompt, reads_on
from onetrunk.core.errors import BadValueError, UsageError
from onetrunk.core.module import Expected
from onetrunk.core.parts import Arrays, Continued, Divided, Parts
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import cells_of, encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import Model
from onetrunk.model import FoundationModel

MOST_APART = 32  # written tokens that are explained each by itself; more are explained together


@dataclass(frozen=True)
class ColumnParts:
    """A column that the answer depends on, and which of all parts are its own."""

    column: str
    value: Any  # as the row has it
    parts: Parts
    first: int
    view: np.ndarray | None = None  # the value as a picture (`Divided.view`)
    asked: bool = False  # is it what the asked column's own value goes on from?
    stays: bool = False  # is the asked column read on its positions, so that it cannot be missing?

    @property
    def own(self) -> slice:
        """Where its parts stand among all P."""
        return slice(self.first, self.first + len(self.parts))


@dataclass(frozen=True)
class Question:
    """One row's answer. `store` holds the row, the asked column with the answer that is explained as its value."""

    network: FoundationModel
    store: Store
    given: list[str]
    ask: str
    answer: Answer
    explained: str  # what of it, in words
    unit: str
    outcomes: list[str]  # [K] what a person calls each
    reads: slice  # of those of the asked value
    apart: bool  # is every read an outcome of its own?
    columns: list[ColumnParts]
    key: int  # of all randomness
    row: int = 0

    @property
    def part_count(self) -> int:
        """P"""
        return sum(len(each.parts) for each in self.columns)

    def owners(self) -> np.ndarray:
        """Which of `columns` each part is of, int64 [P]."""
        return np.repeat(np.arange(len(self.columns)), [len(each.parts) for each in self.columns])


def ask_about(
    model: Model,
    table: Table,
    ask: str,
    given: Sequence[str] | None = None,
    target: Any = None,
    prompted: bool = False,
    seed: int = 0,
    sampling: Sampling | None = None,
    ledger: Ledger | None = None,
) -> list[Question]:
    """What is to be explained of every row of a table: the model's own answer or, of classes and texts, `target`. What
    cannot be read is counted in `ledger`.

    Raises UsageError for a column whose answers cannot be explained so, or a target that is no answer of it.
    """
    task = model.task([ask], given)
    encoder = model.encoder(ask)
    if isinstance(encoder, Gapped) and encoder.answers_by != "writing":
        raise UsageError(f"{ask!r} fills in what is hidden and does not write: ask for a column that is answered.")
    ledger = ledger if ledger is not None else Ledger()
    answers = model.answer(table, ask, task.given, sampling, ledger, prompted)
    wanted = [column for name, column in model.columns.items() if name in task.given and name in table.columns]
    encoded = encode(table, wanted, model.network.encoders, Ledger())
    own = cells_of(encoder, table.columns.get(ask, [None] * len(table)))
    out = []
    for i, answer in enumerate(answers):
        begins = own[i] if own[i] is not None and (prompted or is_prompt(encoder, own[i])) else None
        answer = answer if target is None else _aimed_at(encoder, target, ask)
        values = {name: table.columns[name][i] for name in encoded.names} | {ask: begins}
        row = encoded.take(np.array([i]))
        made = _question(model, row, task.given, ask, answer, begins, values, rng.key(seed, "explain"))
        out.append(_numbered(made, int(table.row[i])))
    return out


def needs_parts(question: Question) -> None:
    """Raises UsageError for a row of which nothing is given."""
    if not question.part_count:
        raise UsageError(
            f"Nothing is given in row {question.row} that {question.ask!r} is answered from, so nothing can be "
            "explained: give values of the model's columns, or a prompt with --prompted."
        )


def _numbered(question: Question, row: int) -> Question:
    return replace(question, row=row)


def _aimed_at(encoder: Encoder, target: Any, ask: str) -> Answer:
    names = class_names(encoder)
    if names is None and not isinstance(encoder, Continued):
        raise UsageError(f"--target says which class or which text is explained; {ask!r} has neither.")
    try:
        arrays = encoder.encode(target)
    except BadValueError as error:
        raise UsageError(f"--target {target!r} is no answer of {ask!r}: {error}.") from None
    if names is not None and encoder.dropped(encoder.stack([arrays])):
        raise UsageError(f"--target {target!r} is no class of {ask!r}; expected one of {', '.join(names[:20])}.")
    return Answer([target] if not isinstance(target, str | list) and names is None else target)


def _question(
    model: Model, row: Store, given: list[str], ask: str, answer: Answer, begins: Any, values: dict[str, Any], key: int
) -> Question:
    network, encoder, module = model.network, model.encoder(ask), model.module(ask)
    before = None if begins is None else encoder.encode(begins)
    arrays, reads, outcomes = _answered(encoder, answer, before)
    content = encoder.stack([arrays])
    c = len(row.names)
    index = np.concatenate([np.where(row.index >= 0, row.index, -1), [[0]]], axis=1)
    store = Store([*row.names, ask], [*row.encoders, encoder], [*row.contents, content], index)
    explained, unit = _in_words(module, ask, answer, outcomes)
    columns: list[ColumnParts] = []
    for i, name in enumerate(store.names):
        if index[0, i] < 0:
            continue
        own = store.contents[i].take(index[:, i])
        parts = _parts_of(store.encoders[i], own, values.get(name), asked=i == c)
        if i == c:  # of what is explained nothing is a cause of it, but what stands before
            parts = _up_to(parts, encoder, arrays, reads)
        if i != c or len(parts):
            first = sum(len(each.parts) for each in columns)
            divided = store.encoders[i]
            view = divided.view(own) if isinstance(divided, Divided) and parts.grid else None
            stays = name == reads_on(encoder)
            columns.append(ColumnParts(name, values.get(name), parts, first, view, i == c, stays))
    return Question(
        network, store, given, ask, answer, explained, unit, outcomes or [ask], reads, bool(outcomes), columns, key
    )


def _answered(encoder: Encoder, answer: Answer, before: Arrays | None) -> tuple[Arrays, slice, list[str] | None]:
    """The answer as a value, which of its reads are explained, and what those are called if they stand apart."""
    if isinstance(encoder, Continued):
        arrays, reads = encoder.continued(before, answer)
        labels = encoder.read_labels(arrays, reads)
        return arrays, reads, labels if labels is None or len(labels) <= MOST_APART else None
    try:
        return encoder.encode(answer.value), slice(None), None
    except BadValueError as error:
        raise UsageError(f"The answer {str(answer.value)[:40]!r} cannot be explained: {error}.") from None


def _parts_of(encoder: Encoder, content: Content, value: Any, asked: bool) -> Parts:
    """What is no part of anything is one part, the whole column."""
    parts = encoder.parts(content, asked) if isinstance(encoder, Divided) else None
    if asked:
        return parts if parts is not None else Parts(np.zeros(0, dtype=np.int64), [], "value")
    if parts is None or not len(parts):
        text = encoder.show(value).get("text", "") if value is not None else ""
        return Parts(np.full(1, -1, dtype=np.int64), [text[:40] or "(empty)"], "value")
    return parts


def _up_to(parts: Parts, encoder: Encoder, arrays: Arrays, reads: slice) -> Parts:
    """Parts of an asked value as far as they come before the last read that is explained."""
    if not isinstance(encoder, Continued) or (isinstance(encoder, Divided) and encoder.by_value):
        return parts
    count = len(next(iter(arrays.values())))
    last = count - 1 if reads.stop is None else reads.stop - 1
    kept = np.flatnonzero(parts.position <= last).tolist()
    spans = None if parts.spans is None else [parts.spans[k] for k in kept]
    return Parts(parts.position[kept], [parts.labels[k] for k in kept], parts.noun, (), spans, parts.text)


def _in_words(module: Any, ask: str, answer: Answer, outcomes: list[str] | None) -> tuple[str, str]:
    """What is explained, and its unit."""
    if isinstance(module, Expected):
        return f"the mean of {ask}", module.units[2]
    if class_names(module.encoder) is not None:
        return f"the log-probability of {ask} = {answer.value}", "nats"
    if outcomes is not None:
        return f"the log-probability of each token of {ask}", "nats"
    if answer.written is not None:
        return f"the mean log-probability of a token of {ask}", "nats"
    return f"how well the answered {ask} is predicted (minus its loss)", "loss"
