"""Histories of items, one a step; other fields, and the time since the step before, stand beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.families.history.encoder import HistoryEncoder, HistoryOptions
from onetrunk.core import rng
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.values import all_are

_FLATTER = 0.75  # items are drawn as negatives by their count to this power (word2vec, arXiv 1310.4546)


class ItemsEncoder(HistoryEncoder):
    type_name = "items"
    nouns = "items"

    class Options(HistoryOptions):
        item: str | None = None  # the field that holds the items; None: the first
        top: int = Field(10, ge=1, le=1000)  # how many are answered, and looked at by the metrics
        repeat: bool = False  # may an answer be an item already seen?
        negatives: int = Field(2, ge=0, le=1000)  # drawn with every history, for its whole batch; 0: all items are
        small: int = Field(4096, ge=0)  # a catalogue up to this size is always taken whole
        catalogue: int | None = Field(None, ge=1)  # how many items there are; None: those of the training rows

    options: Options

    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if not values or not all_are(values, list | tuple | np.ndarray):
            return 0.3 if values and all(_is_dict_of_lists(v) for v in values) else 0.0
        whole = all(isinstance(x, int | np.integer) and not isinstance(x, bool) for v in values for x in v)
        return 0.6 if whole else 0.4 * all(isinstance(x, str) for v in values for x in v)

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def _choose(self, names: list[str]) -> str:
        return self.options.item or next((name for name in names if name != self.options.time), "item")

    def fit(self, values: Sequence[Any]) -> None:
        super().fit(values)
        if (catalogue := self.options.catalogue) is not None and catalogue < len(self.counts):
            raise DataError(
                f"catalogue says that there are {catalogue:,} items, but the training rows hold {len(self.counts):,}: "
                "expected at least as many."
            )

    def shares(self) -> np.ndarray:
        """How popular each item is in the training rows, float32 [V]."""
        return self._shares(1.0)

    def negative_shares(self) -> np.ndarray:
        """With what probability each item is drawn as a negative, float32 [V]."""
        return self._shares(_FLATTER)

    def _shares(self, power: float) -> np.ndarray:
        counts = np.array(self.counts, dtype=np.float32) ** np.float32(power)
        return counts / counts.sum()

    # -- values ------------------------------------------------------------------------------------------------------
    def split(self, value: Any) -> tuple[Any, Any]:
        """All but the last item, and the last; a history of one comes after nothing."""
        fields = self._fields(value)
        before, after = {n: v[:-1] for n, v in fields.items()}, {n: v[-1:] for n, v in fields.items()}
        if isinstance(value, Mapping):
            return before, after
        return before[self.asked], after[self.asked]

    def next_item(self, value: Any) -> int:
        """The index of the first item of what came next, -1 where it was never seen.

        Raises BadValueError where it is missing.
        """
        item = self.listed(value)[0]
        if item is None:
            raise BadValueError("the item that came next is missing")
        return self.finder(self.asked)(item)

    def listed(self, value: Any) -> list[Any]:
        """The items of a history or of a ranked list, in order."""
        return self._fields(value)[self.asked]

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def _more_targets(self, keys: np.ndarray, lens: np.ndarray, reads: np.ndarray) -> dict[str, np.ndarray]:
        """Each history's negatives stand at its first read, -1 at the others."""
        if not self.options.negatives or len(self.counts) <= self.options.small:
            return {}
        whose = np.repeat(np.arange(len(lens)), lens)[reads]
        opens = np.flatnonzero(np.diff(whose, prepend=-1))
        u = rng.uniform(rng.mix(keys[whose[opens]], "negatives"), self.options.negatives).astype(np.float64)
        drawn = np.full((len(reads), self.options.negatives), -1, dtype=np.int64)
        drawn[opens] = np.searchsorted(self._cumulative(), u)
        return {"drawn": drawn}

    def _cumulative(self) -> np.ndarray:
        if len(getattr(self, "_cumulated", ())) != len(self.counts):
            self._cumulated = np.cumsum(self.negative_shares().astype(np.float64))
            self._cumulated /= self._cumulated[-1]
        return self._cumulated


def _is_dict_of_lists(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(v, list | tuple | np.ndarray) for v in value.values())
