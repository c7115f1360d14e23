"""The values of one column, in memory or in a file. Code that reads them goes through them in blocks.

A column is a sequence of Python values, None where missing: a list, or `Values`, which make theirs when they are looked
at. Both give the same answers to the functions here. Of a text file's column, `written` gives the cells as they stand
there: what they look like (the number 3.1) depends on what stands near them, what they are (the text 3.10) does not.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import UnionType
from typing import Any, overload

import numpy as np

from onetrunk.core import rng
from onetrunk.core.spans import spans

BLOCK = 4096  # values that are looked at together
MAX_LEARNT_FROM = 500_000  # values that are held in memory to learn from
MAX_BYTES_LEARNT_FROM = 64 << 20  # and how large they may be together
_SIZES: dict[type, int] = {float: 24, int: 28, bool: 28, type(None): 16}  # bytes, about
_PROBED = 512  # values whose size stands for that of all


class Values(Sequence[Any]):
    """A column that is not held in memory: values are made as they are looked at, in blocks."""

    @abstractmethod
    def take(self, index: np.ndarray) -> Values:
        """The values at `index` int64 [k], in that order; nothing is copied."""

    @abstractmethod
    def blocks(self, size: int = BLOCK) -> Iterator[list[Any]]:
        """All values, in lists of `size`; the last may be shorter."""

    def present(self) -> np.ndarray:
        """Where there is a value, bool [n]."""
        return np.fromiter((v is not None for v in self), dtype=bool, count=len(self))

    @property
    def written(self) -> Sequence[Any]:
        """The cells as they stand in a text file; of what has no such, the values."""
        return self

    def __iter__(self) -> Iterator[Any]:
        for block in self.blocks():
            yield from block

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Values: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self)), dtype=np.int64))
        if not -len(self) <= index < len(self):
            raise IndexError(f"value {index} of a column of {len(self)}")
        return next(self.take(np.array([index % len(self)])).blocks(1))[0]


class Cells(list[Any]):
    """Values of a text file in memory, and its cells as they are `written`."""

    def __init__(self, values: Iterable[Any], written: Sequence[Any]) -> None:
        super().__init__(values)
        self.written = written


class Chain(Values):
    """Columns one under the other."""

    def __init__(self, parts: Iterable[Sequence[Any]], index: np.ndarray | None = None) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)
        self._index = index

    def __len__(self) -> int:
        if self._index is not None:
            return len(self._index)
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def parts(self) -> list[Sequence[Any]] | None:
        """The columns, where all of their rows are there, in their order."""
        return self._parts if self._index is None else None

    def take(self, index: np.ndarray) -> Values:
        return Chain(self._parts, index if self._index is None else self._index[index])

    @property
    def written(self) -> Sequence[Any]:
        return Chain([written(part) for part in self._parts], self._index)

    def present(self) -> np.ndarray:
        if self._index is not None:
            return present_at(self._index, self._ends, lambda part, local: present(take(self._parts[part], local)))
        return np.concatenate([present(part) for part in self._parts]) if self._parts else np.zeros(0, dtype=bool)

    def blocks(self, size: int = BLOCK) -> Iterator[list[Any]]:
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            rows = np.arange(first, last) if self._index is None else self._index[first:last]
            yield scattered(rows, self._ends, lambda part, local: list(take(self._parts[part], local)))


class Repeated(Values):
    """The same value in every row."""

    def __init__(self, value: Any, n: int) -> None:
        self._value, self._n = value, n

    def __len__(self) -> int:
        return self._n

    def take(self, index: np.ndarray) -> Values:
        return Repeated(self._value, len(index))

    def present(self) -> np.ndarray:
        return np.full(self._n, self._value is not None)

    def blocks(self, size: int = BLOCK) -> Iterator[list[Any]]:
        for first in range(0, self._n, size):
            yield [self._value] * min(size, self._n - first)


class Mapped(Values):
    """What `function` makes of lists of a column's values."""

    def __init__(self, values: Sequence[Any], function: Callable[[list[Any]], list[Any]]) -> None:
        self._values, self._function = values, function

    def __len__(self) -> int:
        return len(self._values)

    def take(self, index: np.ndarray) -> Values:
        return Mapped(take(self._values, index), self._function)

    def blocks(self, size: int = BLOCK) -> Iterator[list[Any]]:
        return map(self._function, blocks(self._values, size))


def scattered(rows: np.ndarray, ends: np.ndarray, get: Callable[[int, np.ndarray], list[Any]]) -> list[Any]:
    """The values at `rows` of parts that lie one behind the other, in that order. `ends` [parts] are their last rows
    plus one; `get(part, local)` gives a part's own."""
    which = np.searchsorted(ends, rows, side="right")
    starts = np.append(0, ends[:-1])
    if len(which) and (which[1:] >= which[:-1]).all():  # the usual case: rows in order
        borders = np.flatnonzero(np.diff(which)) + 1
        out: list[Any] = []
        for local in np.split(np.arange(len(rows)), borders):
            p = int(which[local[0]])
            out += get(p, rows[local] - starts[p])
        return out
    out = [None] * len(rows)
    for p in np.unique(which).tolist():
        local = np.flatnonzero(which == p)
        for i, value in zip(local.tolist(), get(p, rows[local] - starts[p]), strict=True):
            out[i] = value
    return out


def present_at(rows: np.ndarray, ends: np.ndarray, get: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """As `scattered`, of what `get` says of rows of a part, bool [n]: parts in which none of them is are not looked
    at."""
    out, starts = np.zeros(len(rows), dtype=bool), np.append(0, ends[:-1])
    for span in spans(len(rows)):
        some = rows[span]
        which = np.searchsorted(ends, some, side="right")
        for p in np.unique(which).tolist():
            here = np.flatnonzero(which == p)
            out[span.start + here] = get(p, some[here] - starts[p])
    return out


# -- of any column ---------------------------------------------------------------------------------------------------
def take(values: Sequence[Any], index: np.ndarray) -> Sequence[Any]:
    """The values at `index` int64 [k], in that order."""
    if isinstance(values, Values):
        return values.take(index)
    taken = [values[i] for i in index.tolist()]
    return Cells(taken, take(values.written, index)) if isinstance(values, Cells) else taken


def all_are(values: Sequence[Any], kind: type | UnionType) -> bool:
    """Is every value of this type, or of one of these? Types are few: each is looked at once."""
    return all(issubclass(each, kind) for each in set(map(type, values)))


def some_are(values: Sequence[Any], kind: type | UnionType) -> bool:
    """Is any value of this type, or of one of these?"""
    return any(issubclass(each, kind) for each in set(map(type, values)))


def written(values: Sequence[Any]) -> Sequence[Any]:
    """The cells as they stand in a text file; of what has no such, the values."""
    return values.written if isinstance(values, Cells | Values) else values


def loaded(values: Sequence[Any]) -> Sequence[Any]:
    """In memory."""
    if not isinstance(values, Values):
        return values
    cells = values.written
    return list(values) if cells is values else Cells(values, cells)


def blocks(values: Sequence[Any], size: int = BLOCK) -> Iterator[list[Any]]:
    """All values, in lists of `size`; the last may be shorter."""
    if isinstance(values, Values):
        yield from values.blocks(size)
    else:
        for first in range(0, len(values), size):
            yield list(values[first : first + size])


def present(values: Sequence[Any]) -> np.ndarray:
    """Where there is a value, bool [n]."""
    if isinstance(values, Values):
        return values.present()
    return np.array([v is not None for v in values], dtype=bool)


def of_present(values: Sequence[Any]) -> Sequence[Any]:
    """The values that are there."""
    if isinstance(values, Values):
        known = present(values)
        return values if known.all() else values.take(np.flatnonzero(known))
    there = [v for v in values if v is not None]
    if isinstance(values, Cells):
        whole = len(there) == len(values)
        return values if whole else Cells(there, take(values.written, np.flatnonzero(present(values))))
    return there


def sample_present(values: Sequence[Any], most: int = 1000) -> list[Any]:
    """At most `most` of the values that are there, spread evenly."""
    if isinstance(values, list) and len(values) <= most:
        return [value for value in values if value is not None]
    index = np.flatnonzero(present(values))
    return list(take(values, index[:: max(1, len(index) // most)][:most]))


def chain(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Columns one under the other: a list, where all are lists."""
    if len(columns) == 1:
        return columns[0]
    if any(isinstance(column, Values) for column in columns):
        return Chain(columns)
    values = [v for column in columns for v in column]
    return Cells(values, chain(list(map(written, columns)))) if any(isinstance(c, Cells) for c in columns) else values


def in_memory(
    values: Sequence[Any], most: int = MAX_LEARNT_FROM, most_bytes: int = MAX_BYTES_LEARNT_FROM
) -> Sequence[Any]:
    """The values to learn from, for those who need all at once: all of them, as they are; where they are more or larger
    than memory should hold, a sample, always the same, in the column's order."""
    n = len(values)
    most = rows_within([values], most, most_bytes)
    if n <= most:
        return list(values) if isinstance(values, Values) else values
    chosen = rng.some_of(rng.key(0, "learn from", n), n, most)
    return list(take(values, chosen))


def rows_within(columns: Iterable[Sequence[Any]], most: int, most_bytes: int) -> int:
    """So many rows of these columns, at most `most`, are about as large in memory; some in any case."""
    size = 0.0
    for values in columns:
        probes = take(values, np.arange(0, len(values), max(1, len(values) // _PROBED), dtype=np.int64))
        size += _size_together(list(probes)) / max(1, len(probes))
    return min(most, max(_PROBED, int(most_bytes / max(1.0, size))))


def _size_together(values: list[Any]) -> int:
    """Bytes in memory of all of them, about."""
    kinds = Counter(map(type, values))
    if kinds.keys() == {str}:
        return sum(map(len, values))
    if kinds.keys() <= _SIZES.keys():
        return sum(_SIZES[kind] * count for kind, count in kinds.items())
    return sum(map(_size, values))


def _size(value: Any) -> int:
    """Bytes in memory, about."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list | tuple | set):
        return sum(map(_size, value))
    return sys.getsizeof(value, 64)
