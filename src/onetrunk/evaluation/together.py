"""Held-out rows that the processes of a run (`engine.world`) answer together, each its part of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder
from onetrunk.core.errors import OnetrunkError
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.values import take
from onetrunk.data.store import Store
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.world import World
from onetrunk.inference.model_folder import Model

Columns = Mapping[str, Sequence[Any]]


@dataclass
class _Rows:
    """A `Task`: to answer these rows, or to find the losses of their true values (`Model.answer`, `Model.losses`)."""

    model: Model
    columns: Columns
    ask: str
    given: list[str]
    encoded: Store | None
    what: Literal["answer", "losses"]
    device: str  # its kind

    def __call__(self, world: World) -> None:
        Runtime.open(self.device).place(self.model.network)
        self.gathered(world)

    def gathered(self, world: World) -> list[tuple[Any, OnetrunkError | None]]:
        """What each process makes of its part of the rows, in their order, or why it makes nothing."""
        count = len(next(iter(self.columns.values()), []))
        own: tuple[Any, OnetrunkError | None]
        try:
            own = self._made(np.array_split(np.arange(count), world.size)[world.rank]), None
        except OnetrunkError as error:
            own = None, error
        return world.gather(own)

    def _made(self, rows: np.ndarray) -> Any:
        columns = {name: take(values, rows) for name, values in self.columns.items()}
        encoded = None if self.encoded is None else self.encoded.take(rows)
        if self.what == "losses":
            return self.model.losses(columns, self.ask, self.given, encoded)
        first = int(rows[0]) if len(rows) else 0  # what is drawn for a row follows from its number
        return self.model.answer(columns, self.ask, self.given, first_row=first, encoded=encoded)


class TogetherModel:
    """The model as evidence asks it (`gather.JudgedModel`), in rank 0 of several processes."""

    def __init__(self, model: Model, world: World) -> None:
        self._model, self._world = model, world

    def encoder(self, column: str) -> Encoder:
        return self._model.encoder(column)

    def evaluation(self, column: str) -> Evaluation[Any]:
        return self._model.evaluation(column)

    def answer(self, columns: Columns, ask: str, given: Sequence[str], *, encoded: Store | None = None) -> list[Answer]:
        return [answer for part in self._parts(columns, ask, given, encoded, "answer") for answer in part]

    def losses(
        self, columns: Columns, ask: str, given: Sequence[str], encoded: Store | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        sums, counts = zip(*self._parts(columns, ask, given, encoded, "losses"), strict=True)
        return np.concatenate(sums), np.concatenate(counts)

    def _parts(
        self, columns: Columns, ask: str, given: Sequence[str], encoded: Store | None, what: Literal["answer", "losses"]
    ) -> list[Any]:
        device = Runtime.of(self._model.network).device.type
        rows = _Rows(self._model, columns, ask, list(given), encoded, what, device)
        with self._world.together():
            self._world.hand_out(rows)
            made = rows.gathered(self._world)
        for _, error in made:
            if error is not None:
                raise error
        return [part for part, _ in made]
