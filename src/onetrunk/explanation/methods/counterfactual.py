"""Counterfactuals of table rows (arXiv 1711.00399): the least change of given values with which the answer is another.

Values are tried that training rows have in the same column, so that what is tried is a row that could be. One column
is changed first; while no change is enough, the best one stays and the next is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder, Ordered
from onetrunk.core.errors import BadValueError, UsageError
from onetrunk.explanation.attribution import Finding, finding, plain
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method

_VALUES = 24  # of each column that are tried
_CHANGES = 3  # columns changed at once, at most
_LOOKED_AT = 2_000  # training rows


class Counterfactual(Method):
    attributes = False
    needs_train = True

    def explain(self, game: Game) -> Finding:
        question, model = game.question, self.settings.model
        if model is None:
            raise UsageError("counterfactual asks the whole model: give it with Settings(model=...).")
        row = {each.column: each.value for each in question.columns if not each.asked}
        tried = self._tried(game, row)
        if not tried:
            raise UsageError("counterfactual changes single values (numbers, classes, dates), and the row has none.")
        (now,) = model.answer({name: [value] for name, value in row.items()}, question.ask, question.given)
        changed: dict[str, Any] = {}
        other: list[tuple[float, dict[str, Any], Answer]] = []
        for _ in range(min(_CHANGES, len(tried))):
            options = [{**changed, n: v} for n, (vs, _) in tried.items() if n not in changed for v in vs]
            columns = {name: [option.get(name, value) for option in options] for name, value in row.items()}
            answers = model.answer(columns, question.ask, question.given)
            game.forward_passes += 1
            far = [_distance(tried, row, option) for option in options]
            other = [(d, o, a) for d, o, a in zip(far, options, answers, strict=True) if _is_other(now, a)]
            if other:
                break
            changed = options[int(np.argmin([_like(now, answer) for answer in answers]))]
        other.sort(key=lambda each: each[0])
        rows = [
            [", ".join(f"{n}: {plain(row[n])} → {plain(v)}" for n, v in option.items()), plain(answer.value),
             round(distance, 3)]
            for distance, option, answer in other[: self.settings.rows]
        ]  # fmt: skip
        notes = [] if rows else [f"No change of up to {_CHANGES} values, among those of training rows, gives another."]
        header = ["change", f"{question.ask} would be", "size of the change"]
        title = f"The smallest changes with which {question.ask} is not {plain(now.value)}"
        return finding(game, "counterfactual", title, header, rows, notes)

    def _tried(self, game: Game, row: Mapping[str, Any]) -> dict[str, tuple[list[Any], float]]:
        """Values of training rows to try in each column of single values, and how far apart such values usually are."""
        train, out = self.settings.train, {}
        assert train is not None, "a method that needs training rows is not made without"
        some = train.take(np.arange(min(len(train), _LOOKED_AT)))
        for each in game.question.columns:
            if each.asked or len(each.parts) != 1 or each.parts.noun != "value" or each.column not in some.columns:
                continue
            encoder = game.network.encoder(each.column)
            values = [value for value in some.columns[each.column] if value is not None]
            values, apart = _spread(encoder, encoder.plain(values))
            own = encoder.fingerprint(row[each.column])
            values = [value for value in values if encoder.fingerprint(value) != own]
            if values:
                out[each.column] = (values, apart)
        return out


def _spread(encoder: Encoder, values: Sequence[Any]) -> tuple[list[Any], float]:
    """Different values all over the range or, of classes, the most frequent ones; and how far apart they usually
    are."""
    by_print: dict[str, list[Any]] = {}
    for value in values:
        by_print.setdefault(encoder.fingerprint(value), []).append(value)
    if not isinstance(encoder, Ordered):
        often = sorted(by_print.values(), key=len, reverse=True)
        return [same[0] for same in often[:_VALUES]], 1.0
    placed = []
    for same in by_print.values():
        try:
            placed.append((encoder.to_line(same[0]), same[0]))
        except BadValueError:
            continue
    placed.sort(key=lambda pair: pair[0])
    if not placed:
        return [], 1.0
    index = np.unique(np.linspace(0, len(placed) - 1, min(len(placed), _VALUES)).round().astype(int))
    return [placed[i][1] for i in index.tolist()], float(np.std([at for at, _ in placed]))


def _distance(tried: Mapping[str, tuple[list[Any], float]], row: Mapping[str, Any], option: Mapping[str, Any]) -> float:
    """Of a change: how many usual distances each value moved; 1 for another class."""
    total = 0.0
    for name, value in option.items():
        numeric = isinstance(value, int | float) and isinstance(row[name], int | float)
        total += abs(value - row[name]) / (tried[name][1] or 1.0) if numeric else 1.0
    return total


def _is_other(now: Answer, answer: Answer) -> bool:
    """Another class; a number outside of the interval of the first."""
    if isinstance(now.probability, dict):
        return bool(answer.value != now.value)
    if now.interval is not None:
        low, high = now.interval
        return not low <= answer.value <= high
    return bool(answer.value != now.value)


def _like(now: Answer, answer: Answer) -> float:
    """How near an answer still is to the first."""
    if isinstance(now.probability, dict) and isinstance(answer.probability, dict):
        return answer.probability.get(str(now.value), 0.0)
    try:
        return -abs(float(answer.value) - float(now.value))
    except (TypeError, ValueError):
        return 0.0


METHOD = Counterfactual
