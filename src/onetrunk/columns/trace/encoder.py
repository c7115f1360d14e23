"""Histories of steps where every field is known at its own step, except the one that is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.history.encoder import FIRST, HistoryEncoder, HistoryOptions
from onetrunk.columns.families.names import name_of
from onetrunk.core.answer import Answer
from onetrunk.core.errors import BadValueError
from onetrunk.core.parts import Arrays

_FEW = 20  # classes of an asked field, for a column to be recognised


class TraceEncoder(HistoryEncoder):
    type_name = "trace"

    class Options(HistoryOptions):
        ask: str | None = None  # the field that is asked; None: the last

    options: Options

    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if not values or not all(
            isinstance(v, Mapping) and len(v) > 1 and all(isinstance(x, list | tuple | np.ndarray) for x in v.values())
            for v in values
        ):
            return 0.0
        last = Counter(name_of(x) for v in values for x in list(v.values())[-1] if x is not None)
        return 0.7 if 1 < len(last) <= _FEW else 0.0

    def _choose(self, names: list[str]) -> str:
        return self.options.ask or next((n for n in reversed(names) if n != self.options.time), "step")

    def known(self) -> list[str]:
        return [name for name in self.names if name != self.asked]

    def split(self, value: Any) -> tuple[Any, Any]:
        """What is known before the last answer, and the whole: each step is answered from what stands before it, and
        all of them are judged."""
        self.encode_judged(value)
        fields = self._fields(value)
        before = {**fields, self.asked: [*fields[self.asked][:-1], None]}
        return (before if isinstance(value, Mapping) else before[self.asked]), value

    def encode_judged(self, value: Any) -> dict[str, np.ndarray]:
        """As `encode`; raises BadValueError also where there is no step that could be judged."""
        arrays = self.encode(value)
        if (arrays[self.asked] < FIRST).all():
            raise BadValueError(f"no step has a known {self.asked}")
        return arrays

    def continued(self, before: Arrays | None, answer: Answer) -> tuple[Arrays, slice]:
        """The steps, the last of which was answered so."""
        whole = answer.value[self.asked] if isinstance(answer.value, Mapping) else answer.value
        row = FIRST + self.finder(self.asked)(whole[-1])
        if before is None:
            return {**self.blank(), self.asked: np.array([row], dtype=np.int32)}, slice(-1, None)
        asked = before[self.asked].copy()
        asked[-1] = row
        return {**before, self.asked: asked}, slice(-1, None)

    def asked_values(self, value: Any) -> list[Any]:
        """What was answered at each step, None where it is not known."""
        return self._fields(value)[self.asked]
