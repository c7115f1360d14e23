"""Boosted regression trees as tensors: what gradient boosting learnt becomes part of a network and of its safetensors.

Every tree is walked at once, one level a step (the traversal of Hummingbird, arXiv 2010.04804). There is no gradient
with respect to the inputs: a sum of steps has none.

T trees, N nodes of the largest tree, F features, K outputs, r rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

_CELLS_AT_ONCE = 4_000_000  # rows x trees that are walked together


@dataclass
class Trees:
    """The nodes of T trees, each array [T, N]; a leaf's children are the leaf itself, and what follows a tree's last
    node is never reached. `threshold` holds where `x <= threshold` goes left; `missing_left` where NaN does."""

    feature: np.ndarray  # int64
    threshold: np.ndarray  # float64
    missing_left: np.ndarray  # bool
    left: np.ndarray  # int64
    right: np.ndarray  # int64
    value: np.ndarray  # float32
    output: np.ndarray  # int64 [T]: which output a tree adds to
    baseline: np.ndarray  # float32 [K]
    depth: int


class TreeEnsemble(nn.Module):
    """`forward(x)` of features float64 [r, F], NaN where missing, is the sum of the trees' leaves float32 [r, K]."""

    feature: Tensor
    left: Tensor
    right: Tensor
    threshold: Tensor
    missing_left: Tensor
    value: Tensor
    output: Tensor
    baseline: Tensor

    def __init__(self, trees: int, nodes: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        shape = (trees, nodes)
        for name, kind in {"feature": torch.int64, "left": torch.int64, "right": torch.int64}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=kind))
        self.register_buffer("threshold", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("missing_left", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("value", torch.zeros(shape))
        self.register_buffer("output", torch.zeros(trees, dtype=torch.int64))
        self.register_buffer("baseline", torch.zeros(outputs))

    @classmethod
    def of(cls, trees: Trees) -> TreeEnsemble:
        """The module that holds these trees."""
        T, N = trees.feature.shape
        made = cls(T, N, len(trees.baseline), trees.depth)
        for name, buffer in made.named_buffers():
            buffer.copy_(torch.from_numpy(np.asarray(getattr(trees, name))))
        return made

    def forward(self, x: Tensor) -> Tensor:
        size = max(1, _CELLS_AT_ONCE // max(1, len(self.output)))
        if x.shape[0] <= size:  # not len(): exports would fix it; a graph walks all of a batch at once
            return self._walk(x)
        return torch.cat([self._walk(chunk) for chunk in x.split(size)])

    def _walk(self, x: Tensor) -> Tensor:
        names = ("feature", "threshold", "missing_left", "left", "right", "value")
        feature, threshold, missing_left, left, right, value = (getattr(self, name).flatten() for name in names)
        (T, N), (r, F) = self.feature.shape, x.shape
        numbers, row = x.flatten(), F * torch.arange(r, device=x.device)[:, None]
        root = N * torch.arange(T, device=x.device)
        node = root.expand(r, -1)
        for _ in range(self.depth):
            seen = numbers[row + feature[node]]  # flat, for ONNX Runtime; no gather: that is the name of an input there
            goes_left = (seen <= threshold[node]) | (seen.isnan() & missing_left[node])
            node = root + torch.where(goes_left, left[node], right[node])
        return self.baseline.expand(r, -1).index_add(1, self.output, value[node])


def joined(several: Sequence[Trees]) -> Trees:
    """Ensembles of the same outputs, one after the other: their sum."""
    nodes = max(trees.feature.shape[1] for trees in several)

    def padded(name: str) -> np.ndarray:
        arrays = [getattr(trees, name) for trees in several]
        return np.concatenate([np.pad(array, ((0, 0), (0, nodes - array.shape[1]))) for array in arrays])

    arrays = {n: padded(n) for n in ("feature", "threshold", "missing_left", "left", "right", "value")}
    output = np.concatenate([trees.output for trees in several])
    baseline = np.sum([trees.baseline for trees in several], axis=0)
    return Trees(**arrays, output=output, baseline=baseline, depth=max(trees.depth for trees in several))


def mean(several: Sequence[Trees]) -> Trees:
    """The mean of ensembles of the same outputs."""
    n = len(several)
    return joined([replace(trees, value=trees.value / n, baseline=trees.baseline / n) for trees in several])


def trees_of(estimator: object) -> Trees:
    """What a fitted HistGradientBoostingClassifier or -Regressor of scikit-learn learnt, whose raw predictions
    (log-odds, logits or values) the module then gives.

    Raises ValueError where the estimator's trees have another form than this version of scikit-learn is known to give
    them: its nodes are no public interface.
    """
    rounds = getattr(estimator, "_predictors", None)
    baseline = np.atleast_1d(np.asarray(getattr(estimator, "_baseline_prediction", np.nan), dtype=np.float64).ravel())
    if not rounds or not np.isfinite(baseline).all():
        raise ValueError(f"expected a fitted histogram gradient boosting of scikit-learn, found {estimator!r}")
    nodes = [(predictor.nodes, k) for each in rounds for k, predictor in enumerate(each)]
    if any(tree["is_categorical"].any() for tree, _ in nodes):
        raise ValueError("expected trees over numbers, found splits over categories")
    count = max(len(tree) for tree, _ in nodes)
    shape = (len(nodes), count)
    arrays = {name: np.zeros(shape, dtype=np.int64) for name in ("feature", "left", "right")}
    threshold, value = np.zeros(shape), np.zeros(shape, dtype=np.float32)
    missing_left = np.zeros(shape, dtype=bool)
    for t, (tree, _) in enumerate(nodes):
        n, leaf, own = len(tree), tree["is_leaf"].astype(bool), np.arange(len(tree))
        arrays["feature"][t, :n] = np.where(leaf, 0, tree["feature_idx"])
        arrays["left"][t, :n] = np.where(leaf, own, tree["left"])
        arrays["right"][t, :n] = np.where(leaf, own, tree["right"])
        threshold[t, :n] = np.where(leaf, 0, tree["num_threshold"])
        missing_left[t, :n] = tree["missing_go_to_left"]
        value[t, :n] = np.where(leaf, tree["value"], 0)
    depth = max(int(tree["depth"].max()) for tree, _ in nodes)
    return Trees(
        **arrays,
        threshold=threshold,
        missing_left=missing_left,
        value=value,
        output=np.array([k for _, k in nodes]),
        baseline=baseline.astype(np.float32),
        depth=depth,
    )
