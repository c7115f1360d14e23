"""What a session was asked, and which rows of it have not entered yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onetrunk.core.answer import Sampling
from onetrunk.core.content import Content
from onetrunk.data.store import Store
from onetrunk.inference.given import GivenRows


@dataclass(frozen=True)
class Request:
    """Answers of one column, one for each row."""

    store: Store  # encoded columns; whatever else it holds is not looked at
    ask: str
    given: Sequence[str]  # never the asked column itself
    sampling: Sampling = field(default_factory=Sampling)
    prompt: Content | None = None  # how each row's answer begins; a row without a prompt has one of no parts
    rows: np.ndarray | None = None  # which of the store's rows, in this order; None: all
    first_row: int = 0  # the number of the store's first row among all that are asked for: what is drawn goes by it


@dataclass
class Waiting:
    """A request and which of its rows have not entered yet."""

    number: int
    request: Request
    given_rows: GivenRows
    keys: np.ndarray  # uint64 [rows]
    lengths: np.ndarray  # int64 [rows] positions of what is given and of the prompt
    guided: bool
    beams: int
    entered: int = 0

    @property
    def slots(self) -> int:
        """That one answer takes."""
        return self.beams * (2 if self.guided else 1)

    def take(self, count: int) -> Entering:
        rows = slice(self.entered, self.entered + count)
        self.entered += count
        given_rows = GivenRows(self.given_rows.store, self.given_rows.rows[rows], self.given_rows.given)
        return Entering(self, given_rows, self.keys[rows])


@dataclass
class Entering:
    """Rows of one request that enter now."""

    waiting: Waiting
    given_rows: GivenRows
    keys: np.ndarray


def take_in_order(waiting: list[Waiting], room: int) -> list[Entering]:
    """The first rows of these requests that take at most `room` positions together, one of them at least; requests that
    have entered as a whole are removed from the list."""
    entering: list[Entering] = []
    while waiting and room > 0:
        first = waiting[0]
        taken = np.cumsum(first.lengths[first.entered :] + 1)  # and what is asked
        fits = max(int((taken <= room).sum()), int(not entering))
        room = room - int(taken[fits - 1]) if fits == len(taken) else 0
        if fits:
            entering.append(first.take(fits))
        if first.entered == len(first.keys):
            del waiting[0]
    return entering
