"""A table's encoded columns: arrays in memory while they are small, else memory-mapped from files.

A column is encoded a block of rows at a time and its arrays are kept, one behind the other, in one file each. The files
have no names once they are mapped, so that nothing is left behind (`data.spool`); those of a cache folder stay.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

import numpy as np

from onetrunk.core.content import Content
from onetrunk.core.errors import UsageError
from onetrunk.core.spans import spans
from onetrunk.core.values import blocks
from onetrunk.data import spool
from onetrunk.data.mixture import Mixture
from onetrunk.storage.disk import disk_errors

if TYPE_CHECKING:
    from onetrunk.core.encoder import Encoder

ENCODED_AT_ONCE = 1024  # values
_HASHED_AT_ONCE = 16 << 20  # bytes
_KEPT_POSITIONS = 1 << 20  # of a store that is not large

Bad = Callable[[int, str], None]
Count = Callable[[Content], None] | None


class RowOutputs(Protocol):
    """float32 [rows, K]: an array, or what computes its rows when they are looked at."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...

    def take(self, rows: np.ndarray, axis: Literal[0], /) -> RowOutputs: ...


@dataclass
class Store:
    """A table's encoded columns. `index[:, c]` is a row's position in column c's content, -1 where missing."""

    names: list[str]
    encoders: list[Encoder]
    contents: list[Content]
    index: np.ndarray  # int64 [rows, C]
    row_weight: np.ndarray | None = None  # float32 [rows]
    wide: dict[str, RowOutputs] = field(default_factory=dict)  # asked column -> what its wide read-out says of rows
    mixture: Mixture | None = None  # where tables are drawn from by weights
    _positions: np.ndarray | None = None

    def select(self, names: Sequence[str]) -> Store:
        """These of its columns, as values of a table: without weights, and without what a wide read-out says."""
        chosen = [self.names.index(name) for name in names]
        contents = [self.contents[c] for c in chosen]
        return Store(list(names), [self.encoders[c] for c in chosen], contents, self.index[:, chosen])

    def take(self, rows: np.ndarray) -> Store:
        """These of its rows, as values of a table, in that order, repeats allowed. No array is copied."""
        return Store(self.names, self.encoders, self.contents, spool.take(self.index, rows))

    def subset(self, rows: np.ndarray) -> Store:
        """These of its rows, with their weights, their tables and what wide read-outs say of them. No column is
        copied."""
        out = self.take(rows)
        out.row_weight = None if self.row_weight is None else self.row_weight[rows]
        out.wide = {name: each.take(rows, 0) for name, each in self.wide.items()}
        out.mixture = None if self.mixture is None else self.mixture.take(rows)
        return out

    @property
    def present(self) -> np.ndarray:
        return self.index >= 0

    def column_index(self, name: str, reader: str) -> int:
        """Where the column is that `reader` reads on. UsageError where it is not."""
        if name not in self.names:
            raise UsageError(
                f"The column {reader!r} is read on the column {name!r}, which is not among those used "
                f"({', '.join(self.names)}). Give that column, or name another: columns.{reader}.on."
            )
        return self.names.index(name)

    def positions(self) -> np.ndarray:
        """Of a store whose columns are all encoded: at most how many positions every value takes in a sequence, int64
        [rows, C]; 0 where missing."""
        if self._positions is not None:
            return self._positions
        out = self._of_values(lambda encoder, content: encoder.max_positions(content), 0)
        if out.size <= _KEPT_POSITIONS:  # several requests are asked of its rows, each of which looks
            self._positions = out
        return out

    def windows(self) -> np.ndarray:
        """Training windows of every value, int64 [rows, C]; 1 where missing."""
        return self._of_values(lambda encoder, content: encoder.windows(content), 1)

    def _of_values(self, number: Callable[[Encoder, Content], np.ndarray], missing: int) -> np.ndarray:
        """A number of every value, int64 [rows, C]."""
        out = spool.zeros(self.index.shape, np.int64)
        for c, (encoder, content) in enumerate(zip(self.encoders, self.contents, strict=True)):
            numbers = number(encoder, content) if len(content) else np.full(1, missing)
            for span in spans(len(out)):
                index = self.index[span, c]
                out[span, c] = np.where(index < 0, missing, numbers[np.maximum(index, 0)])
        return out

    def digest(self) -> str:
        """Equal for equal rows. It does not depend on the order in which an encoder names its arrays: a cache, for one,
        names them in another."""
        made = hashlib.blake2b(digest_size=8)
        _hash(made, self.index)
        if self.mixture is not None:
            made.update(self.mixture.table.tobytes() + self.mixture.weights.tobytes())
        for content in self.contents:
            if content.ragged:
                _hash(made, content.lens)
                _hash(made, content.starts)
            for name, array in sorted(content.data.items()):
                made.update(name.encode())
                _hash(made, array)
        return made.hexdigest()


def _hash(made: hashlib.blake2b, array: np.ndarray) -> None:
    rows = max(1, _HASHED_AT_ONCE // max(1, array[:1].nbytes))
    for first in range(0, len(array), rows):
        made.update(np.ascontiguousarray(array[first : first + rows]).tobytes())


class ContentWriter:
    """Takes a column's content in blocks, and gives it back as one."""

    def __init__(self) -> None:
        self._parts: list[dict[str, np.ndarray]] = []
        self._lens: list[np.ndarray] = []
        self._bytes = 0
        self._files: dict[str, _ArrayFile] = {}

    def append(self, content: Content) -> None:
        """Raises ResourceError where the disk is full."""
        arrays = content.gather()
        if content.ragged:
            self._lens.append(content.lens)
        self._parts.append(arrays)
        self._bytes += sum(array.nbytes for array in arrays.values())
        if self._bytes > spool.IN_MEMORY_BYTES or self._files:
            for block in self._parts:
                for name, array in block.items():
                    self._files.setdefault(name, _ArrayFile(array)).append(array)
            self._parts.clear()

    def content(self) -> Content:
        """All that was appended; nothing can be appended after."""
        if self._files:
            data = {name: file.mapped() for name, file in self._files.items()}
        else:
            data = {name: np.concatenate([block[name] for block in self._parts]) for name in self._parts[0]}
        return Content(data, np.concatenate(self._lens) if self._lens else None)


class _ArrayFile:
    """One array in a file without a name, a block behind the other."""

    def __init__(self, like: np.ndarray) -> None:
        self._dtype, self._shape, self._rows = like.dtype, like.shape[1:], 0
        with disk_errors(spool.folder()):
            # Open as long as it is mapped.
            self._file: BinaryIO = tempfile.TemporaryFile(prefix="onetrunk-")  # noqa: SIM115

    def append(self, block: np.ndarray) -> None:
        if block.dtype != self._dtype or block.shape[1:] != self._shape:
            raise TypeError(
                f"A column's blocks differ: expected {self._dtype} {list(self._shape)}, found {block.dtype} "
                f"{list(block.shape[1:])}."
            )
        with disk_errors(spool.folder()):
            self._file.write(np.ascontiguousarray(block).data)
        self._rows += len(block)

    def mapped(self) -> np.ndarray:
        shape = (self._rows, *self._shape)
        with disk_errors(spool.folder()):
            self._file.flush()
        if not np.prod(shape, dtype=np.int64):
            return np.zeros(shape, dtype=self._dtype)
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=shape).view(np.ndarray)


def encode_values(encoder: Encoder, values: Sequence[Any], bad: Bad, count: Count = None) -> tuple[Content, np.ndarray]:
    """As `encoder.encode_all`, a block at a time: content that may lie in a file, and which values are in it, bool [n].
    `count` is told of each block's content."""
    writer, present = ContentWriter(), np.zeros(len(values), dtype=bool)
    for first, block in _numbered(blocks(values, ENCODED_AT_ONCE)):

        def bad_here(i: int, reason: str, first: int = first) -> None:
            bad(first + i, reason)

        content, present[first : first + len(block)] = encoder.encode_all(block, bad_here)
        if count is not None:
            count(content)
        if len(content):
            writer.append(content)
    return (writer.content() if present.any() else encoder.encode_all([], bad)[0]), present


def _numbered(lists: Iterator[list[Any]]) -> Iterator[tuple[int, list[Any]]]:
    first = 0
    for block in lists:
        yield first, block
        first += len(block)
