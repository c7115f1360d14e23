"""The training rows that are nearest to a row, as the model sees both: by the mean state of what is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from onetrunk.core.errors import UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.explanation.attribution import Finding, finding, plain
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method, Settings
from onetrunk.inference.answer_rows import pooled_states

_MOST_ROWS = 20_000  # that are looked at
_SHOWN = 60  # characters of a value


class NearestRows(Method):
    attributes = False
    needs_train = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._states: dict[tuple[str, ...], np.ndarray] = {}  # of the training rows, by what is given

    def explain(self, game: Game) -> Finding:
        question, train = game.question, self.settings.train
        assert train is not None, "a method that needs training rows is not made without"
        given = [each.column for each in question.columns if not each.asked]
        if not given:
            raise UsageError(f"nearest_rows compares what is given, and {question.ask!r} is answered from nothing.")
        game.forward_passes += 1
        own = pooled_states(game.network, question.store, given)
        states = self._of_train(game, tuple(given))
        near = _cosines(states, own[0])
        best = np.argsort(-near, kind="stable")[: self.settings.rows]
        shown = [name for name in (question.ask, *given) if name in train.columns]
        rows: list[list[Any]] = [
            [int(train.row[i]), round(float(near[i]), 4), *(_short(train.columns[name][int(i)]) for name in shown)]
            for i in best
        ]
        header = ["training row", "cosine", *shown]
        return finding(game, "nearest_rows", "The nearest training rows, as the model sees them", header, rows)

    def _of_train(self, game: Game, given: tuple[str, ...]) -> np.ndarray:
        if given not in self._states:
            train, network = self.settings.train, game.network
            assert train is not None
            some = train.take(np.arange(min(len(train), _MOST_ROWS)))
            columns = [network.columns[name] for name in given]
            store = encode(some, columns, network.encoders, Ledger())
            self._states[given] = pooled_states(network, store, given)
        return self._states[given]


def _cosines(states: np.ndarray, own: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(states, axis=1) * np.linalg.norm(own)
    return np.where(lengths > 0, states @ own / np.where(lengths > 0, lengths, 1), -1.0)


def _short(value: Any) -> Any:
    value = plain(value)
    text = str(value)
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else value


METHOD = NearestRows
