"""What a method says of one answer: how much each part of what was given counts, or a table of what it found.

p parts of a column; K outcomes that are explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onetrunk.core.parts import Parts
from onetrunk.explanation.game import Game

_ENOUGH = 1e-9  # a change of an outcome below it is none


@dataclass(frozen=True)
class ColumnValues:
    """Of one column."""

    column: str
    shown: Any  # its value, as the row has it
    parts: Parts
    values: np.ndarray  # float64 [K]: of the whole column
    by_part: np.ndarray | None  # float64 [K, p]; None where the method speaks of whole columns
    view: np.ndarray | None = None  # the value as a picture
    asked: bool = False  # is it what the answer goes on from, of the asked column itself?

    def as_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"column": self.column, "values": _numbers(self.values), "asked": self.asked}
        if self.by_part is not None:
            out |= {"noun": self.parts.noun, "parts": self.parts.labels, "by_part": _numbers(self.by_part)}
            out |= {"grid": list(self.parts.grid)} if self.parts.grid else {}
        return out


@dataclass(frozen=True)
class Attribution:
    """How much everything that was given counts for what is explained, in `unit`. `score` is the outcome of the row and
    `nothing` that of a row of which nothing is known, as the method sees one, float64 [K] each."""

    method: str
    row: int
    ask: str
    answer: Any
    explained: str
    unit: str
    outcomes: list[str]
    columns: list[ColumnValues]
    score: np.ndarray
    nothing: np.ndarray
    additive: bool  # does the method promise that the values add up to score - nothing?
    forward_passes: int
    backward_passes: int
    notes: list[str] = field(default_factory=list)

    def total(self, outcome: int | None = None) -> np.ndarray:
        """The values of all P parts, in order, of one outcome or of all together: float64 [P]. The value of a column of
        which parts are not told is shared out evenly."""
        pieces = []
        for each in self.columns:
            by_part = each.by_part
            if by_part is None:
                by_part = np.repeat(each.values[:, None] / max(1, len(each.parts)), len(each.parts), axis=1)
            pieces.append(by_part.sum(0) if outcome is None else by_part[outcome])
        return np.concatenate(pieces) if pieces else np.zeros(0)

    @property
    def completeness_error(self) -> float:
        """How far the values are from adding up, as a share of what they should add up to; that itself where it is
        nothing."""
        values = [each.values if each.by_part is None else each.by_part.sum(1) for each in self.columns]
        sums = np.sum(values, axis=0)
        wanted = self.score - self.nothing
        error, size = float(np.abs(sums - wanted).sum()), float(np.abs(wanted).sum())
        return error / size if size > _ENOUGH else error

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "row": self.row,
            "ask": self.ask,
            "answer": plain(self.answer),
            "explained": self.explained,
            "unit": self.unit,
            "outcomes": self.outcomes,
            "columns": [each.as_json() for each in self.columns],
            "score": _numbers(self.score),
            "nothing": _numbers(self.nothing),
            "completeness_error": _numbers(np.array(self.completeness_error)),
            "additive": self.additive,
            "passes": {"forward": self.forward_passes, "backward": self.backward_passes},
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Finding:
    """What a method found that is no number for each part: a table."""

    method: str
    row: int
    ask: str
    answer: Any
    title: str
    header: list[str]
    rows: list[list[Any]]
    forward_passes: int
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "row": self.row,
            "ask": self.ask,
            "answer": plain(self.answer),
            "title": self.title,
            "table": [dict(zip(self.header, map(plain, row), strict=True)) for row in self.rows],
            "passes": {"forward": self.forward_passes, "backward": 0},
            "notes": self.notes,
        }


Explanation = Attribution | Finding


def attribution(
    game: Game,
    method: str,
    by_part: np.ndarray | None,
    score: np.ndarray,
    nothing: np.ndarray,
    *,
    by_column: np.ndarray | None = None,
    additive: bool = True,
    notes: Sequence[str] = (),
) -> Attribution:
    """Of values float64 [K, P]; and of whole columns [K, columns], where those are not the sums of their parts."""
    question = game.question
    columns = []
    for c, each in enumerate(question.columns):
        own = None if by_part is None else by_part[:, each.own]
        values = by_column[:, c] if by_column is not None else np.zeros(len(score)) if own is None else own.sum(1)
        columns.append(ColumnValues(each.column, each.value, each.parts, values, own, each.view, each.asked))
    return Attribution(
        method, question.row, question.ask, question.answer.value, question.explained, question.unit,
        question.outcomes, columns, np.asarray(score), np.asarray(nothing), additive, game.forward_passes,
        game.backward_passes, list(notes),
    )  # fmt: skip


def finding(
    game: Game, method: str, title: str, header: list[str], rows: list[list[Any]], notes: Sequence[str] = ()
) -> Finding:
    question = game.question
    return Finding(
        method, question.row, question.ask, question.answer.value, title, header, rows, game.forward_passes, list(notes)
    )


def _numbers(values: np.ndarray) -> Any:
    """As JSON has them: what is not finite is null."""
    out = values.astype(object)
    out[~np.isfinite(values)] = None
    return out.tolist()


def in_words(completeness_error: float) -> str:
    """Of what values should add up to, how much they miss."""
    if completeness_error >= 10:
        return f"{completeness_error:.0f} times the change"
    percent = 100 * completeness_error
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def plain(value: Any) -> Any:
    """A value as JSON has it: arrays and files by what they are."""
    if isinstance(value, np.ndarray):
        return f"{' × '.join(map(str, value.shape))} numbers" if value.size > 64 else value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
