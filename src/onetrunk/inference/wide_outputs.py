"""Computes the wide read-out of an asked column for the rows of a store, before the trunk runs."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch

from onetrunk.core.content import Content
from onetrunk.core.wide import Wide, WideFeatures
from onetrunk.data import spool
from onetrunk.data.store import Store
from onetrunk.model import FoundationModel
from onetrunk.model.wide import WideReadout

_ROWS_AT_ONCE, _FIRST_ROWS = 8192, 128
_FEATURES_AT_ONCE = 1 << 19


class WideOutputs:
    """What a wide read-out says of a store's rows, for whoever takes rows of an array [rows, K]. Of those that it was
    fitted on, it is what was said of them held out; of any other row it is computed once it is looked at."""

    def __init__(self, readout: WideReadout, store: Store, rows: np.ndarray, held_out: np.ndarray) -> None:
        self._readout, self._store = readout, store.select(_given(readout, store.names, store))
        self._said = spool.zeros((len(store.index), readout.shape.outputs), np.float32)
        self._known = np.zeros(len(store.index), dtype=bool)
        self._said[rows], self._known[rows] = held_out, True
        self._rows: np.ndarray | None = None  # of the store; None: all

    def take(self, rows: np.ndarray, axis: Literal[0] = 0) -> WideOutputs:
        """Of these rows, int64 [n], in this order."""
        taken = copy.copy(self)
        taken._rows = rows if self._rows is None else self._rows[rows]
        return taken

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, K] of the rows int64 [n]."""
        rows = rows if self._rows is None else self._rows[rows]
        if len(new := np.unique(rows[~self._known[rows]])):
            self._said[new] = _said(self._readout, self._store, self._store.names, new)
            self._known[new] = True
        return self._said[rows]


def add_wide(model: FoundationModel, store: Store, given: Collection[str], ask: str) -> None:
    """Puts in the store what the wide read-out of `ask` says of each row, float32 [rows, K], where it has one. Columns
    that are not given, or not there, are missing to it."""
    readout = model.wide_of(ask)
    if readout is not None:
        store.wide[ask] = _said(readout, store, _given(readout, given, store), np.arange(len(store.index)))


def _given(readout: WideReadout, given: Collection[str], store: Store) -> list[str]:
    """The columns that it looks at, as far as they are given and there."""
    return [name for name in readout.shape.given if name in given and name in store.names]


@torch.no_grad()
def _said(readout: WideReadout, store: Store, names: Collection[str], rows: np.ndarray) -> np.ndarray:
    """What the read-out says of these rows, float32 [n, K]. The next rows' features are found meanwhile."""
    out = np.zeros((len(rows), readout.shape.outputs), dtype=np.float32)
    first, last = 0, min(_FIRST_ROWS, len(rows))
    found = features_of(store, names, rows[:last])
    with ThreadPoolExecutor(1, thread_name_prefix="onetrunk-features") as thread:
        while first < last:
            features, present = found
            beyond = min(last + min(rows_at_once(features, last - first), _ROWS_AT_ONCE), len(rows))
            coming = thread.submit(features_of, store, names, rows[last:beyond]) if last < beyond else None
            out[first:last] = readout(readout.tensors(features, present), last - first).cpu().numpy()
            if coming is not None:
                found = coming.result()
            first, last = last, beyond
    return out


def rows_at_once(features: Mapping[str, WideFeatures], rows: int) -> int:
    """So many rows like these, whose features are given, a read-out can take at once: of each feature it makes some
    dozens of numbers."""
    return max(1, _FEATURES_AT_ONCE * rows // max(1, sum(own.found for own in features.values())))


def features_of(
    store: Store, names: Collection[str], rows: np.ndarray
) -> tuple[dict[str, WideFeatures], dict[str, np.ndarray]]:
    """Features of columns that have any, and which of the rows they are of."""
    features, present = {}, {}
    for name in names:
        c = store.names.index(name)
        encoder = store.encoders[c]
        if isinstance(encoder, Wide):
            index = store.index[rows, c]
            there = np.flatnonzero(index >= 0)
            content: Content = store.contents[c].take(index[there])
            features[name], present[name] = encoder.wide_features(content), there
    return features, present
