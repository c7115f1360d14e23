"""What travels from a column's encoder towards a batch: NumPy arrays, and no torch.

Shape legend, here and everywhere: B sequences in a batch, T positions in a sequence, D width, H heads, V vocabulary;
m documents, n positions of one segment or column, r positions that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Role(IntEnum):
    """What a column does in one document."""

    ABSENT = 0
    GIVEN = 1  # visible
    ASKED = 2  # predicted, in a branch of its own
    MASKED = 3  # some of it hidden, predicted in place


class Content:
    """Encoded values of one column for m documents: deterministic, cacheable, free of randomness.

    Dense: every array is [m, ...]. Ragged (`lens` was given): document i is `array[starts[i] : starts[i] + lens[i]]`
    of every array, so that taking documents, or windows of them, copies nothing until `gather`. `lens` and `starts` of
    dense content raise TypeError.
    """

    def __init__(
        self, data: dict[str, np.ndarray], lens: np.ndarray | None = None, starts: np.ndarray | None = None
    ) -> None:
        self.data, self._lens = data, lens
        self._starts = np.cumsum(lens) - lens if lens is not None and starts is None else starts

    @property
    def ragged(self) -> bool:
        return self._lens is not None

    @property
    def lens(self) -> np.ndarray:
        """How many parts each document has, int64 [m]."""
        return self._of_ragged(self._lens)

    @property
    def starts(self) -> np.ndarray:
        """Where each document's parts start in the arrays, int64 [m]."""
        return self._of_ragged(self._starts)

    def _of_ragged(self, array: np.ndarray | None) -> np.ndarray:
        if array is None:
            raise TypeError(f"dense content has no lens and no starts; its arrays are {', '.join(self.data)}")
        return array

    def __len__(self) -> int:
        return len(self.lens) if self.ragged else len(next(iter(self.data.values())))

    def take(self, index: np.ndarray) -> Content:
        """The documents of `index` [k], in that order, repeats allowed."""
        if not self.ragged:
            return Content({name: array[index] for name, array in self.data.items()})
        return Content(self.data, self.lens[index], self.starts[index])

    def window(self, first: np.ndarray, lens: np.ndarray) -> Content:
        """Ragged only: elements `first[i] .. first[i] + lens[i]` of every document."""
        return Content(self.data, lens, self.starts + first)

    def gather(self) -> dict[str, np.ndarray]:
        """The arrays of these documents alone: [m, ...] or, ragged, [sum(lens), ...]."""
        if not self.ragged:
            return self.data
        flat = np.repeat(self.starts, self.lens) + local_positions(self.lens)
        return {name: array[flat] for name, array in self.data.items()}

    @staticmethod
    def stack(items: list[dict[str, np.ndarray]], ragged: bool) -> Content:
        """Joins what `Encoder.encode` made of single values."""
        names = items[0].keys()
        if not ragged:
            return Content({name: np.stack([item[name] for item in items]) for name in names})
        lens = np.array([len(next(iter(item.values()))) for item in items], dtype=np.int64)
        return Content({name: np.concatenate([item[name] for item in items]) for name in names}, lens)

    @staticmethod
    def join(contents: Sequence[Content]) -> Content:
        """The documents of several contents of one column, one after the other."""
        if len(contents) == 1:
            return contents[0]
        arrays = [content.gather() for content in contents]
        data = {name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]}
        return Content(data, np.concatenate([each.lens for each in contents]) if contents[0].ragged else None)


def window_counts(lens: np.ndarray, length: int) -> np.ndarray:
    """How many windows of at most `length` elements cover values of `lens` [m] elements, int64 [m]; at least one
    each."""
    return np.maximum(1, -(-lens // length))


def cut_into_windows(content: Content, length: int) -> tuple[Content, np.ndarray]:
    """Ragged content as windows of at most `length` elements that cover all once; and whose each is, int64 [w]."""
    counts = window_counts(content.lens, length)
    whose = np.repeat(np.arange(len(content)), counts)
    first = local_positions(counts) * length
    return content.take(whose).window(first, np.minimum(content.lens[whose] - first, length)), whose


def pick(array: np.ndarray, index: np.ndarray, beyond: object) -> np.ndarray:
    """`array[index]`; `beyond` where the index is not below the array's length. The array itself is not copied: it may
    be larger than memory."""
    if not len(array):
        return np.full(index.shape, beyond, dtype=array.dtype)
    inside = index < len(array)
    return np.where(inside, array[np.where(inside, index, 0)], np.asarray(beyond, dtype=array.dtype))


def local_positions(lens: np.ndarray) -> np.ndarray:
    """0..len-1 for each document, joined: int64 [sum(lens)]."""
    return np.arange(int(lens.sum()), dtype=np.int64) - np.repeat(np.cumsum(lens) - lens, lens)


@dataclass
class Segment:
    """One column's content for a group of m documents, in one role, ready to embed.

    `content` is what the module's `embed` takes (any natural shape); it fills `lens[i]` positions of document i, n in
    all.
    `order` [n] counts from 0 in every document and never falls: a position sees those of its document whose order is
    not above its own. None: one block, all see each other. `reads` [r] are the positions (of n; of the other column's
    for a column that is read on one) where something is predicted, `targets` [r, ...] what is right there;
    `targets["w"]` weighs each of them. `facts` [m, ...] are handed, by name, to columns that are read on this one
    (`ReadPositions`): what they are is between the two types.
    """

    content: dict[str, np.ndarray]
    lens: np.ndarray
    order: np.ndarray | None = None
    reads: np.ndarray | None = None
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class ReadPositions:
    """The positions of another column that an asked one reads on, in each of m documents.

    `lens` [m] is 0 where that column is missing; `facts` [m, ...] are what its segment tells (`Segment.facts`), zeros
    where it is missing.
    """

    lens: np.ndarray
    facts: dict[str, np.ndarray] = field(default_factory=dict)

    def take(self, index: np.ndarray | slice) -> ReadPositions:
        """Of the documents of `index` [k], in that order."""
        return ReadPositions(self.lens[index], {name: fact[index] for name, fact in self.facts.items()})
