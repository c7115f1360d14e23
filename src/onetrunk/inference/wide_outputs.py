"""Computes the wide read-out of an asked column for the rows of a store, before the trunk runs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from onetrunk.core.content import Content
from onetrunk.core.wide import Wide, WideFeatures
from onetrunk.data.store import Store
from onetrunk.model import FoundationModel

_ROWS_AT_ONCE = 8192


@torch.no_grad()
def add_wide(model: FoundationModel, store: Store, given: Collection[str], ask: str) -> None:
    """Puts in the store what the wide read-out of `ask` says of each row, float32 [rows, K], where it has one. Columns
    that are not given, or not there, are missing to it."""
    readout = model.wide_of(ask)
    if readout is None:
        return
    out = np.zeros((len(store.index), readout.shape.outputs), dtype=np.float32)
    for first in range(0, len(out), _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, len(out)))
        names = [name for name in readout.shape.given if name in given and name in store.names]
        features, present = features_of(store, names, rows)
        out[rows] = readout(readout.tensors(features, present), len(rows)).cpu().numpy()
    store.wide[ask] = out


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
