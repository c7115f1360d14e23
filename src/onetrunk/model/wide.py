"""The wide read-out of an asked column beside the deep one (Wide & Deep, arXiv 1606.07792): what linear models of
n-grams and classes, and boosted trees, know of it, as tensors of the network.

Its tensors are buffers, fitted by solvers of their own (`training.wide`) and not by the trunk's training. It gives
K numbers a document, to which the column's module adds what it reads from the trunk: logits of classes, or the place
on the line. m documents; A features of one kind; K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from onetrunk.core.wide import WideFeatures, signed
from onetrunk.nn.heads.trees import TreeEnsemble

_PREFIX = "columns"
PRESENT = "present"  # of what is read of a column: which documents have a value


@dataclass(frozen=True)
class WideShape:
    """The sizes of a wide read-out, as JSON in the model folder: its tensors are made from them before they are
    loaded."""

    given: list[str]
    outputs: int
    features: dict[str, dict[str, int]]  # column -> kind of features -> A
    components: dict[str, int] = field(default_factory=dict)  # column -> dense numbers made of its counted features
    keys: dict[str, int] = field(default_factory=dict)  # column -> values whose mean is known
    dense: dict[str, int] = field(default_factory=dict)  # column -> its own dense numbers
    trees: tuple[int, int, int] | None = None  # trees, nodes, depth
    counted: dict[str, list[str]] = field(default_factory=dict)  # column -> kinds that are counted
    component_steps: int = 0  # from 0 to 1, to which components are rounded; 0: they are not, as in earlier folders
    hashed: bool = False  # which features there are was learnt from no row, and each kind's have length 1 at most

    @classmethod
    def parse(cls, shape: dict[str, Any]) -> WideShape:
        """The inverse of `vars`, of JSON. Raises TypeError for other fields."""
        trees = shape.get("trees")
        return cls(**{**shape, "trees": None if trees is None else tuple(trees)})


class WideColumn(nn.Module):
    """What is known of one given column's features."""

    missing: Tensor
    key: Tensor
    key_mean: Tensor
    any_mean: Tensor

    def __init__(self, shape: WideShape, name: str) -> None:
        super().__init__()
        K, components = shape.outputs, shape.components.get(name, 0)
        self.kinds = list(shape.features.get(name, {}))
        self.counted, self.hashed = set(shape.counted.get(name, [])), shape.hashed
        for i, kind in enumerate(self.kinds):
            count = shape.features[name][kind]
            if not self.hashed:
                self.register_buffer(f"feature{i}", torch.zeros(count, dtype=torch.int64))  # sorted as unsigned numbers
                self.register_buffer(f"rarity{i}", torch.ones(count))  # inverse document frequency
            self.register_buffer(f"weight{i}", torch.zeros(count, K))
            if components and kind in self.counted:
                self.register_buffer(f"component{i}", torch.zeros(count, components))
        self.components, self.component_steps = components, shape.component_steps
        self.register_buffer("missing", torch.zeros(K))  # added where the value is missing
        if keys := shape.keys.get(name, 0):
            self.register_buffer("key", torch.zeros(keys, dtype=torch.int64))
            self.register_buffer("key_mean", torch.zeros(keys, K))
            self.register_buffer("any_mean", torch.zeros(K))
        self.dense = shape.dense.get(name, 0)

    @property
    def numbers(self) -> int:
        """That trees see of it."""
        means = self.key_mean.shape[1] if hasattr(self, "key") else 0
        return self.dense + self.components + means

    @property
    def takes(self) -> list[str]:
        """Which of the features' arrays (`WideFeatures.arrays`) are looked at."""
        known = [kind for i, kind in enumerate(self.kinds) if len(getattr(self, f"weight{i}"))]
        names = [f"{kind}.{part}" for kind in known for part in ("row", "feature", "weight")]
        return names + ["dense"] * bool(self.dense) + ["key"] * hasattr(self, "key")

    def tensors(self, features: WideFeatures) -> dict[str, Tensor]:
        """The features' arrays."""
        return {name: torch.from_numpy(array).to(self.missing.device) for name, array in features.arrays().items()}

    def forward(self, tensors: Mapping[str, Tensor], m: int) -> tuple[Tensor, Tensor]:
        """The linear part [m, K], and the numbers for trees float64 [m, numbers]."""
        linear = self.missing.new_zeros(m, self.missing.shape[0])
        components = self.missing.new_zeros(m, self.components)
        for i, kind in enumerate(self.kinds):
            if not len(getattr(self, f"weight{i}")):
                continue
            row, index, weight = self.matched(i, tensors, m)
            linear = linear + _summed(getattr(self, f"weight{i}"), row, index, weight, m)
            if self.components and kind in self.counted:
                components = components + _summed(getattr(self, f"component{i}"), row, index, weight, m)
        # Rounded: trees would tell values apart by what the order of a sum leaves, which differs between machines.
        steps = self.component_steps
        numbers = [(steps * components).round().double() / steps if steps else components.double()]
        if self.dense:
            numbers.insert(0, tensors["dense"])
        if hasattr(self, "key"):
            index, known = _matching(self.key, tensors["key"])
            mean = torch.where(known[:, None], self.key_mean[index], self.any_mean)
            numbers.append(mean.double())
        return linear, torch.cat(numbers, dim=1)

    def matched(self, i: int, tensors: Mapping[str, Tensor], m: int) -> tuple[Tensor, Tensor, Tensor]:
        """Known features of the column's kind i: their row, index and weight. Counted ones are weighed as TF-IDF, each
        value to length 1. Where features are hashed (Weinberger et al., arXiv 0902.2206), all are known."""
        kind = self.kinds[i]
        row, feature, weight = (tensors[f"{kind}.{part}"] for part in ("row", "feature", "weight"))
        if self.hashed:
            index = feature % len(getattr(self, f"weight{i}"))
        else:
            index, there = _matching(getattr(self, f"feature{i}"), feature)
            row, index, weight = row[there], index[there], weight[there]
        if kind in self.counted:
            weight = 1 + weight.log()
            weight = weight if self.hashed else weight * getattr(self, f"rarity{i}")[index]
        if kind in self.counted or self.hashed:
            length = weight.new_zeros(m).index_add(0, row, weight.square()).sqrt()
            weight = weight / (length if kind in self.counted else length.clamp(min=1))[row]
        return row, index, weight


class WideReadout(nn.Module):
    """Of one asked column: `forward(tensors, m)` gives float32 [m, K], of what `tensors` makes of features."""

    bias: Tensor
    mix: Tensor

    def __init__(self, shape: WideShape) -> None:
        super().__init__()
        self.shape = shape
        for i, name in enumerate(shape.given):
            self.add_module(f"{_PREFIX}{i}", WideColumn(shape, name))
        self.register_buffer("bias", torch.zeros(shape.outputs))
        self.register_buffer("mix", torch.tensor([1.0, 0.0]))  # how much the linear part and the trees count
        if shape.trees is not None:
            trees, nodes, depth = shape.trees
            self.trees = TreeEnsemble(trees, nodes, shape.outputs, depth)

    def column(self, name: str) -> WideColumn:
        submodule = self.get_submodule(f"{_PREFIX}{self.shape.given.index(name)}")
        assert isinstance(submodule, WideColumn)
        return submodule

    def tensors(
        self, features: Mapping[str, WideFeatures], present: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, Tensor]]:
        """What is read of documents, by given column. `features` of a column are of its present values, which are those
        of the documents `present[column]` int64 [its count]; the others miss it, and all where it is not there."""
        device = self.bias.device
        return {
            name: {
                PRESENT: torch.from_numpy(np.asarray(present[name])).to(device),
                **self.column(name).tensors(features[name]),
            }
            for name in self.shape.given
            if name in features
        }

    def linear_and_numbers(self, tensors: Mapping[str, Mapping[str, Tensor]], m: int) -> tuple[Tensor, Tensor]:
        """The linear part [m, K] and what trees see float64 [m, F], of m documents."""
        linear, numbers = self.bias.expand(m, -1).clone(), []
        for name in self.shape.given:
            column = self.column(name)
            seen = self.bias.new_full((m, column.numbers), torch.nan, dtype=torch.float64)
            absent = torch.ones(m, dtype=torch.bool, device=self.bias.device)
            if name in tensors:
                where = tensors[name][PRESENT]
                own, dense = column(tensors[name], where.shape[0])
                linear = linear.index_add(0, where, own)
                seen[where], absent[where] = dense, False
            linear = linear + absent[:, None] * column.missing
            numbers.append(seen)
        return linear, torch.cat(numbers, dim=1) if numbers else linear.new_zeros(m, 0, dtype=torch.float64)

    def forward(self, tensors: Mapping[str, Mapping[str, Tensor]], m: int) -> Tensor:
        linear, numbers = self.linear_and_numbers(tensors, m)
        out = self.mix[0] * linear
        return out + self.mix[1] * self.trees(numbers) if self.shape.trees is not None else out

    def as_json(self) -> dict[str, Any]:
        return vars(self.shape)


def _summed(table: Tensor, row: Tensor, index: Tensor, weight: Tensor, m: int) -> Tensor:
    """Of each of m rows the sum of `weight * table[index]` of the features that it has, [m, K]; `row` is ascending."""
    if torch.compiler.is_exporting():  # to ONNX a bag is a loop over rows, one after the other
        return table.new_zeros(m, table.shape[1]).index_add(0, row, table[index] * weight[:, None])
    first = torch.searchsorted(row.contiguous(), torch.arange(m, device=row.device))
    return functional.embedding_bag(index, table, first, mode="sum", per_sample_weights=weight)


def _matching(known: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where each wanted number stands among the known ones, and whether it is there. Both are as `signed`."""
    if not len(known):
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    index = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    return index, known[index] == wanted


def as_known(features: np.ndarray) -> np.ndarray:
    """Distinct unsigned numbers as a read-out keeps them, int64, increasing."""
    return np.sort(signed(features))
