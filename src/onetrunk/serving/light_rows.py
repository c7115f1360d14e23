"""A few small rows, which the engine encodes itself: so a request changes threads twice, and those that come at about
one time share the work."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onetrunk.core.answer import Sampling
from onetrunk.core.errors import OnetrunkError
from onetrunk.inference.at_once import is_at_once
from onetrunk.inference.request import Request
from onetrunk.serving.engine_thread import Reading
from onetrunk.serving.folders import Asked, Folder
from onetrunk.serving.request_errors import RequestError

BODY_BYTES = 32 << 10  # of a request whose rows are so few and small that encoding them holds nobody up
ROWS = 16


@dataclass(eq=False)
class LightRows(Reading):
    """Rows by column, and what is asked of them. After `read`, `asked` says how."""

    folder: Folder
    flat: list[dict[str, Any]]
    samplings: Mapping[str, Sampling]
    given: Sequence[str] | None = None
    prompted: bool = False
    max_bad: float = 0.0
    asked: Asked | None = None

    @property
    def count(self) -> int:
        return len(self.flat) * len(self.samplings)

    @property
    def alike(self) -> Hashable:
        """Rows of one model with the same columns, of which the same is asked: in one way, and answered in one step."""
        model = self.folder.model
        alone = self.folder.lanes.repeatable or model.events is not None  # events are rows together
        if alone or not all(is_at_once(model.network, name) for name in self.samplings):
            return id(self)
        columns = frozenset(name for row in self.flat for name in row)
        given = None if self.given is None else tuple(self.given)
        return id(self.folder), tuple(self.samplings.items()), given, self.prompted, columns

    def read(self, others: Sequence[LightRows]) -> Sequence[Sequence[Request] | Exception]:
        every = [self, *others]
        if not others or not self._read_together(every):
            for each in every:
                each.asked = None
        return [each._requests() for each in every]

    def _read_together(self, every: Sequence[LightRows]) -> bool:
        """Encodes the rows of all as one table. Returns False, and nothing is done, where a value is lost: whose it is
        and what to say of it is then found out one by one."""
        try:
            whole = self._ask([row for each in every for row in each.flat])
        except (RequestError, OnetrunkError):
            return False
        if not whole.clean:
            return False
        first = 0
        for each in every:
            rows = np.arange(first, first + len(each.flat))
            requests = {
                # What is drawn goes by the number that a row has in its own request.
                name: replace(request, rows=rows, first_row=request.first_row - first)
                for name, request in whole.requests.items()
            }
            each.asked = Asked(requests, whole.positions[rows], whole.notes)
            first += len(rows)
        return True

    def _requests(self) -> Sequence[Request] | Exception:
        try:
            if self.asked is None:
                self.asked = self._ask(self.flat)
        except Exception as error:  # it is who asked that hears of it
            return error
        return list(self.asked.requests.values())

    def _ask(self, flat: Sequence[dict[str, Any]]) -> Asked:
        folder = self.folder
        return folder.ask(
            folder.as_table(flat), self.samplings, self.given, prompted=self.prompted, max_bad=self.max_bad
        )
