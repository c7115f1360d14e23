"""Typed questions of a decision, and their answers: an asked column is a question, whoever's words it comes in.

| question | column | answer |
|---|---|---|
| predicate | a category: of two classes, or COLUMN=CLASS | how likely it is true |
| choice | a category: all of its classes, or some | how likely each is, among those asked |
| score | a category, its classes as levels; a number or date, the nearest level | of each level; their mean |
| box | places in pictures; of one class by COLUMN=CLASS, or where the instructions are a class | the best place |

Probabilities are the folder's, calibrated where it is; the order of options does not change them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.encoder import Encoder, Located, Ordered, class_names
from onetrunk.core.errors import BadValueError, nearest
from onetrunk.media.image import open_image
from onetrunk.serving.answer_json import coverage_json, plain
from onetrunk.serving.folders import Folder, question_types
from onetrunk.serving.request_errors import bad

Kind = Literal["predicate", "choice", "score", "box"]
Place = tuple[float, float, float, float]  # left, top, right and bottom, as shares of a picture
_TRUE = ("true", "yes", "1", "y", "positive", "t")  # of two classes that are called so, the one that is true
_MOST_OPTIONS = 255
_QUANTILES = 1000  # that a number's levels are counted in


@dataclass(frozen=True)
class Question:
    """As asked. `options` are the values of a choice, or the labels of a score's levels, lowest first."""

    name: str | None
    kind: Kind
    instructions: str = ""
    options: Sequence[str | bool] = ()
    where: str = "questions"


@dataclass(frozen=True)
class Chosen:
    """A question, the column that answers it, and which of the column's classes its options are."""

    question: Question
    column: str
    classes: tuple[str, ...] = ()  # of a category: of the options, or the one that makes a predicate true
    levels: tuple[float, ...] = ()  # of a number: where the levels lie on its line


@dataclass(frozen=True)
class Verdict:
    """How likely each option is; of a predicate, how likely it is true."""

    question: Question
    probabilities: tuple[float, ...]
    around: dict[str, Any] = field(default_factory=dict)  # an interval, or the options of a conformal set; its coverage
    place: Place = (0.0, 0.0, 1.0, 1.0)  # of a box

    @property
    def best(self) -> int:
        """The likeliest option. Of equal ones the first by name, so that their order does not matter."""
        options = self.question.options
        return min(range(len(options)), key=lambda i: (-self.probabilities[i], str(options[i])))

    @property
    def confidence(self) -> float:
        return self.probabilities[self.best]

    @property
    def score(self) -> float:
        """The mean level, from 0."""
        return float(np.dot(np.arange(len(self.probabilities)), self.probabilities))


def choose(folder: Folder, question: Question) -> Chosen:
    """Which column a question asks: that of its name, that of its instructions, or the only one of its kind. Raises
    RequestError where there is none, or its options are not the column's."""
    column, named_class = _column(folder, question)
    encoder = folder.model.encoder(column)
    if question.kind == "predicate":
        return Chosen(question, column, (_true_class(column, encoder, named_class, question),))
    if question.kind == "choice":
        return Chosen(question, column, _classes(column, encoder, question))
    if question.kind == "box":
        return Chosen(question, column, _looked_for(column, encoder, named_class, question))
    return _levels(column, encoder, question)


def sampling_of(chosen: Chosen, coverage: float) -> Sampling:
    return Sampling(quantiles=_QUANTILES if chosen.levels else 0, coverage=coverage)


def judge(folder: Folder, chosen: Chosen, answer: Answer, size: tuple[int, int] | None = None) -> Verdict:
    """What a column's answer says to a question; `size` is the picture's, where a box is looked for in one."""
    if size is not None:
        return _placed(chosen, answer, size)
    if chosen.levels:
        encoder = folder.model.encoder(chosen.column)
        assert isinstance(encoder, Ordered) and answer.quantiles is not None
        at = np.array([encoder.to_line(value) for value in answer.quantiles.values()])
        nearest_level = np.abs(at[:, None] - np.array(chosen.levels)).argmin(1)
        shares = np.bincount(nearest_level, minlength=len(chosen.levels)) / len(at)
        return Verdict(chosen.question, tuple(shares.tolist()), plain(coverage_json(answer)))
    of = np.array([answer.of_classes[name] for name in chosen.classes])
    if chosen.question.kind == "predicate":
        return Verdict(chosen.question, (float(of[0]),))
    total = of.sum()
    p = of / total if total > 0 else np.full(len(of), 1 / len(of))
    return Verdict(chosen.question, tuple(p.tolist()), _set_of(folder, chosen, answer))


def _set_of(folder: Folder, chosen: Chosen, answer: Answer) -> dict[str, Any]:
    """Which options are in the conformal set; nothing where some classes are left out, of which it promises nothing."""
    encoder: Any = folder.model.encoder(chosen.column)  # of a category
    if answer.conformal_set is None or set(chosen.classes) != set(class_names(encoder) or []):
        return {}
    held = {encoder.name(value) for value in answer.conformal_set}
    options = [option for option, name in zip(chosen.question.options, chosen.classes, strict=True) if name in held]
    return {"set": options, "coverage": answer.coverage}


# -- columns ---------------------------------------------------------------------------------------------------------
def _column(folder: Folder, question: Question) -> tuple[str, str | None]:
    able = {name: question_types(folder.model.encoder(name)) for name in folder.questions()}
    for text in filter(None, (question.name, question.instructions.strip())):
        if text in able:
            return _able(folder, text, question, able), None
        name, sign, value = text.rpartition("=")
        if sign and question.kind in ("predicate", "box") and name.strip() in able:
            return name.strip(), value.strip()
    fit = [name for name, kinds in able.items() if question.kind in kinds]
    if len(fit) == 1:
        return fit[0], None
    listed = "; ".join(f"{name} ({', '.join(kinds) or 'no question'})" for name, kinds in able.items()) or "none"
    raise bad(
        f"{question.where}: the model {folder.name!r} does not know which column this asks for. Name the question as "
        f"one of its columns: {listed}.{nearest(question.name, able) if question.name else ''}",
        question.where,
        "unknown_question",
    )


def _able(folder: Folder, name: str, question: Question, able: dict[str, list[str]]) -> str:
    if question.kind not in able[name]:
        kinds = ", ".join(able[name]) or "no question of a decision: ask /v1/predict"
        raise bad(f"{question.where}: the column {name!r} is no {question.kind}; it answers {kinds}.", question.where)
    return name


def _looked_for(column: str, encoder: Encoder, named_class: str | None, question: Question) -> tuple[str, ...]:
    """The class of the box that is asked for; none: whatever there is."""
    assert isinstance(encoder, Located)
    if named_class is not None and named_class not in encoder.classes:
        listed = ", ".join(encoder.classes[:50])
        raise bad(f"{question.where}: {named_class[:100]!r} is no class of {column!r}. They are {listed}.",
                  question.where, "unknown_choice")  # fmt: skip
    told = question.instructions.strip().lower()
    return (named_class,) if named_class is not None else tuple(c for c in encoder.classes if c.lower() == told)


def picture_size(folder: Folder, column: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Width and height of the picture that a column's places lie in. Raises RequestError where there is none."""
    encoder = folder.model.encoder(column)
    assert isinstance(encoder, Located)
    values = [value for row in folder.flat(rows) if (value := row.get(encoder.on or "")) is not None]
    if not values:
        raise bad(f"{column!r} is looked for in a picture, and {encoder.on!r} holds none.", "state")
    try:
        return open_image(values[0]).size
    except BadValueError as error:
        raise bad(f"{encoder.on!r} cannot be used: {error}.", "state") from None


def _placed(chosen: Chosen, answer: Answer, size: tuple[int, int]) -> Verdict:
    """The best place; where nothing is found all of the picture, and no confidence."""
    found = [each for each in answer.value or [] if not chosen.classes or each["label"] in chosen.classes]
    if not found:
        return Verdict(chosen.question, (0.0,))
    (x, y, width, height), (across, down) = found[0]["box"], size
    edges = (x / across, y / down, (x + width) / across, (y + height) / down)
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return Verdict(chosen.question, (float(found[0]["score"]),), place=(left, top, right, bottom))


def _true_class(column: str, encoder: Encoder, named_class: str | None, question: Question) -> str:
    classes = class_names(encoder)
    if classes is None:
        raise bad(f"{question.where}: the column {column!r} is no category.", question.where)
    if named_class is not None:
        return _class_of(column, encoder, classes, named_class, question)
    true = [name for name in classes if name.lower() in _TRUE]
    if len(true) != 1:
        ways = " or ".join(f"{column}={name}" for name in classes)
        raise bad(f"{question.where}: say which class is true, by the question's name: {ways}.", question.where)
    return true[0]


def _classes(column: str, encoder: Encoder, question: Question) -> tuple[str, ...]:
    classes = class_names(encoder) or []
    chosen = tuple(_class_of(column, encoder, classes, option, question) for option in question.options)
    if len(set(chosen)) < len(chosen):
        raise bad(f"{question.where}: two choices are the same class of {column!r}.", question.where)
    return chosen


def _class_of(column: str, encoder: Any, classes: list[str], option: str | bool, question: Question) -> str:
    row = encoder.row_of(option)
    if row < 0:
        listed = ", ".join(classes[:50]) + (", ..." if len(classes) > 50 else "")
        raise bad(f"{question.where}: {str(option)[:100]!r} is no class of {column!r}. They are {listed}.",
                  question.where, "unknown_choice")  # fmt: skip
    return classes[row]


def _levels(column: str, encoder: Encoder, question: Question) -> Chosen:
    """A category's levels are its classes, in the order they are asked in; where its classes are numbers and there are
    as many levels, these describe them from the lowest on. A number's levels are numbers that rise."""
    if (classes := class_names(encoder)) is not None:
        named = [encoder.row_of(option) for option in question.options]  # type: ignore[attr-defined]  # of a category
        if (
            any(row < 0 for row in named)
            and len(named) == len(classes)
            and getattr(encoder, "kind", "") in ("int", "float")
        ):
            return Chosen(question, column, tuple(classes))
        chosen = _classes(column, encoder, question)
        at = [classes.index(name) for name in chosen]
        if getattr(encoder, "ordered", False) and at != sorted(at):
            raise bad(
                f"{question.where}: the levels of {column!r} have an order: {', '.join(classes)}.", question.where
            )
        return Chosen(question, column, chosen)
    assert isinstance(encoder, Ordered)
    try:
        levels = tuple(encoder.to_line(option) for option in question.options)
    except BadValueError as error:
        raise bad(
            f"{question.where}: each level of {column!r} should be a value of it: {error}.", question.where
        ) from None
    if any(a >= b for a, b in pairwise(levels)):
        raise bad(f"{question.where}: the levels of {column!r} should rise.", question.where)
    return Chosen(question, column, levels=levels)


def check_options(questions: Sequence[Question]) -> None:
    """Raises RequestError for options that are too few, too many or equal."""
    for question in questions:
        if question.kind in ("predicate", "box"):
            continue
        if not 2 <= len(question.options) <= _MOST_OPTIONS:
            found = len(question.options)
            raise bad(f"{question.where}: expected 2 to {_MOST_OPTIONS} options, found {found}.", question.where)
        if len({(type(option), option) for option in question.options}) < len(question.options):
            raise bad(f"{question.where}: two options are equal.", question.where)
