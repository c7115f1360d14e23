"""The features that a wide read-out knows: which there are, how rare each is, and the matrix of a linear model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from onetrunk.core.wide import Sparse, WideFeatures
from onetrunk.inference.wide_outputs import rows_at_once
from onetrunk.model.wide import WideReadout, WideShape, as_known
from onetrunk.training.wide.rows import Rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_MAX_FEATURES = 200_000  # of one kind, the most frequent
_MAX_WEIGHTS = 40_000_000  # features times outputs
_MIN_ROWS = 2  # in which a counted feature stands
_LEAST_VARIANCE = 1e-8
_COMPONENTS = 30
_COMPONENT_STEPS = 1 << 16
_COMPONENT_FEATURES = 20_000  # of which components are made, the most frequent


def shape_of(rows: Rows, outputs: int) -> WideShape:
    features, counted, components, keys, dense = {}, {}, {}, {}, {}
    for name, own in rows.features.items():
        features[name] = {kind: len(_kept(each, outputs)[0]) for kind, each in own.sparse.items()}
        counted[name] = [kind for kind, each in own.sparse.items() if each.counted]
        size = sum(features[name][kind] for kind in counted[name])
        if counted[name] and size > 2 * _COMPONENTS and own.count > 2 * _COMPONENTS:
            components[name] = _COMPONENTS
        if own.dense is not None:
            dense[name] = own.dense.shape[1]
        if rows.group is None and own.key is not None and own.count and len(np.unique(own.key)) <= own.count / 2:
            keys[name] = len(np.unique(own.key))
    return WideShape(list(rows.features), outputs, features, components, keys, dense, None, counted, _COMPONENT_STEPS)


def _kept(sparse_: Sparse, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Features worth a weight for each output, uint64, increasing; and how many values have each, int64."""
    most = max(1, min(_MAX_FEATURES, _MAX_WEIGHTS // outputs))
    values, counts = np.unique(sparse_.feature, return_counts=True)
    often = counts >= (_MIN_ROWS if sparse_.counted else 1)
    values, counts = values[often], counts[often]
    if len(values) > most:
        frequent = np.sort(np.argsort(-counts, kind="stable")[:most])
        values, counts = values[frequent], counts[frequent]
    return values, counts


def learn_features(readout: WideReadout, rows: Rows, seed: int) -> None:
    """Which features there are, how rare each is, and what few numbers say most of them."""
    for name, own in rows.features.items():
        column = readout.column(name)
        for i, kind in enumerate(column.kinds):
            features, values_with = _kept(own.sparse[kind], readout.shape.outputs)
            getattr(column, f"feature{i}").copy_(torch.from_numpy(as_known(features)))
            if own.sparse[kind].counted:
                rarity = np.log((1 + own.count) / (1 + values_with)) + 1
                getattr(column, f"rarity{i}").copy_(torch.from_numpy(rarity))
        if column.components:
            _learn_components(column, own, seed)


def _learn_components(column: Any, own: WideFeatures, seed: int) -> None:
    """Few numbers that say most of the frequent counted features (latent semantic analysis)."""
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    counted = [i for i, kind in enumerate(column.kinds) if kind in column.counted]
    blocks = [_matrix(column, i, own) for i in counted]
    ends = np.cumsum([block.shape[1] for block in blocks])
    rows_with = np.concatenate([np.bincount(block.indices, minlength=block.shape[1]) for block in blocks])
    often = np.sort(np.argsort(-rows_with, kind="stable")[:_COMPONENT_FEATURES])
    of_block = np.split(often, np.searchsorted(often, ends[:-1]))
    chosen = [
        block[:, own_ones - (end - block.shape[1])] for block, end, own_ones in zip(blocks, ends, of_block, strict=True)
    ]
    with threadpool_limits(1):
        frequent = sparse.hstack(chosen, format="csr", dtype=np.float32)
        svd = TruncatedSVD(column.components, n_iter=2, random_state=seed).fit(frequent)
    components = np.zeros((len(rows_with), column.components), dtype=np.float32)
    components[often] = svd.components_.T
    first = 0
    for i, block in zip(counted, blocks, strict=True):
        getattr(column, f"component{i}").copy_(torch.from_numpy(components[first : first + block.shape[1]]))
        first += block.shape[1]


def _matrix(column: Any, i: int, own: WideFeatures) -> csr_matrix:
    """Weighed features of one kind, sparse [values, A], by the read-out's own code; some values at a time, for it makes
    some dozens of numbers of each feature."""
    from scipy.sparse import csr_matrix, vstack

    kind, width = column.kinds[i], len(getattr(column, f"weight{i}"))
    of_kind = WideFeatures(own.count, {kind: own.sparse[kind]})
    size = rows_at_once({kind: of_kind}, own.count)
    blocks = []
    for first in range(0, max(1, own.count), size):
        some = of_kind.between(first, min(first + size, own.count))
        row, index, weight = column.matched(i, column.tensors(some), some.count)
        blocks.append(csr_matrix((weight.numpy(), (row.numpy(), index.numpy())), shape=(some.count, width)))
    return vstack(blocks, format="csr")


@dataclass(frozen=True)
class Design:
    """Every column's features beside each other, then whether its value is missing: sparse [m, all]. Numbers are in
    units of their spread `scale` [all], and those that no present value lacks around their mean `centre` [all] (which
    is 0 of all others): solvers then take a fraction of the steps. Hashed features are as they are."""

    x: csr_matrix
    scale: np.ndarray
    centre: np.ndarray


def design_of(readout: WideReadout, rows: Rows) -> Design:
    """What a linear model of these rows learns from."""
    from scipy.sparse import csr_matrix, hstack

    blocks, scales, centres = [], [], []
    for name, own in rows.features.items():
        column, where = readout.column(name), rows.present[name]
        of_rows = csr_matrix(
            (np.ones(len(where), dtype=np.float32), (where, np.arange(len(where)))), shape=(rows.count, len(where))
        )
        for i, kind in enumerate(column.kinds):
            block = _matrix(column, i, own)
            scale, centre = np.ones(block.shape[1]), np.zeros(block.shape[1])
            if _are_numbers(own.sparse[kind]) and not readout.shape.hashed:  # else they say nothing of rows
                scale, centre = _spread(block), _means_of_complete(block)
                block = csr_matrix(block.multiply(1 / scale[None]) - _as_rows(centre / scale, own.count))
            blocks.append(of_rows @ block)
            scales.append(scale)
            centres.append(centre)
        absent = np.ones((rows.count, 1), dtype=np.float32)
        absent[where] = 0
        blocks.append(csr_matrix(absent))
        scales.append(np.ones(1))
        centres.append(np.zeros(1))
    return Design(hstack(blocks, dtype=np.float32).tocsr(), np.concatenate(scales), np.concatenate(centres))


def _as_rows(values: np.ndarray, count: int) -> csr_matrix:
    """So many equal rows, of which only what is not 0 is held."""
    from scipy.sparse import csr_matrix

    there = np.flatnonzero(values)
    index, data = np.tile(there, count), np.tile(values[there], count)
    return csr_matrix((data, index, np.arange(count + 1) * len(there)), shape=(count, len(values)))


def _means_of_complete(x: csr_matrix) -> np.ndarray:
    """Means of the columns of which every row has a number, 0 of the others."""
    complete = np.bincount(x.indices, minlength=x.shape[1]) == x.shape[0]
    return np.where(complete, np.asarray(x.mean(0)).ravel(), 0.0)


def kinds_of_texts(readout: WideReadout, rows: Rows) -> dict[str, np.ndarray]:
    """Kinds of counted features (of texts: words, characters): which of the design's features are of each, bool
    [all]."""
    kinds: list[str | None] = []  # of each feature; None: not counted
    for name, own in rows.features.items():
        column = readout.column(name)
        for i, kind in enumerate(column.kinds):
            kinds += [kind if own.sparse[kind].counted else None] * len(getattr(column, f"feature{i}"))
        kinds.append(None)
    counted = dict.fromkeys(kind for kind in kinds if kind is not None)
    return {kind: np.array([each == kind for each in kinds]) for kind in counted}


def _are_numbers(own: Sparse) -> bool:
    """Rather than features that are there or not."""
    return not own.counted and bool((own.weight != 1).any())


def _spread(x: csr_matrix) -> np.ndarray:
    """Standard deviations of columns, 1 where there is none."""
    mean = np.asarray(x.mean(0)).ravel()
    variance = np.asarray(x.multiply(x).mean(0)).ravel() - mean**2
    return np.where(variance > _LEAST_VARIANCE, np.sqrt(np.maximum(variance, _LEAST_VARIANCE)), 1.0)
