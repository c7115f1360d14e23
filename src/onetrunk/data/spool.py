"""The values of a file, as Arrow's record batches: in memory while they are few, else in a memory-mapped file.

The file has no name once it is mapped: it is gone when nobody looks at it any more, also after a kill. It lies in the
system's folder for temporary files (the variable TMPDIR names another). Inside of `keeping`, what is read stays: in
files of a folder, from which a prepared table is made (`data.prepared`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onetrunk.core.spans import spans
from onetrunk.core.values import BLOCK, Repeated, Values, present_at, scattered
from onetrunk.storage.disk import disk_errors

IN_MEMORY_BYTES = 32 << 20  # of one table, or of one encoded column; above, it is kept in a file


@dataclass(frozen=True)
class Decode:
    """How Python values are made of an Arrow array. Its `name` is what a prepared table remembers it by."""

    values: Callable[[pa.Array], list[Any]]
    present: Callable[[pa.Array], pa.Array] = pc.is_valid  # where they are not None
    name: tuple[str, ...] = ()


@dataclass
class Kept:
    """Where spools leave their files, each of about `file_bytes`; `spools` are the files of each, in order."""

    folder: Path
    file_bytes: int
    spools: list[list[Path]] = field(default_factory=list)
    made: int = 0

    def new_file(self) -> Path:
        self.made += 1
        return self.folder / f"{self.made - 1:05}.arrow"


_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def keeping(folder: Path, file_bytes: int) -> Iterator[Kept]:
    """Inside, whatever is read is written to files in the folder, however little it is, and stays there."""
    kept = Kept(folder, file_bytes)
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As NumPy's; where it is large, in a file without a name, which is not held in memory."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype=dtype)
    with disk_errors(folder()), tempfile.TemporaryFile(prefix="onetrunk-") as file:
        file.truncate(size)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape).view(np.ndarray)


def kept(array: np.ndarray) -> np.ndarray:
    """The same, where it is large in a file without a name, which is not held in memory."""
    if array.nbytes <= IN_MEMORY_BYTES:
        return array
    out = zeros(array.shape, array.dtype)
    out[:] = array
    return out


def take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`array[rows]`, where it is large in a file without a name."""
    out = zeros((len(rows), *array.shape[1:]), array.dtype)
    for span in spans(len(rows)):
        out[span] = array[rows[span]]
    return out


def folder() -> Path:
    """Where files without names lie."""
    return Path(tempfile.gettempdir())


class Spool:
    """Takes record batches of one schema, and gives them back, once."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0  # of the batches in memory, or in the last file
        self._paths: list[Path] = []
        self._kept = _kept.get()
        self.first: pa.RecordBatch | None = None
        self.number: int | None = None  # among those of a kept folder
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    @property
    def in_memory(self) -> bool:
        return self._kept is None and not self._paths

    def append(self, batch: pa.RecordBatch) -> None:
        """Raises ResourceError where the disk is full."""
        if self.first is None:
            self.first = batch
        waiting = [batch]
        if self.in_memory:
            self._batches.append(batch)
            self._bytes += batch.nbytes
            if self._bytes <= IN_MEMORY_BYTES:
                return
            waiting, self._batches = self._batches, []
        with disk_errors(self._folder):
            writer = self._open(batch)
            for each in waiting:
                writer.write_batch(each)
        self._bytes += batch.nbytes

    def batches(self) -> list[pa.RecordBatch]:
        """All that was appended; nothing can be appended after."""
        if self.in_memory:
            return self._batches
        with disk_errors(self._folder):
            self._close()
            self._batches = [batch for path in self._paths for batch in mapped_batches(path)]
        if self._kept is not None:
            self.number = len(self._kept.spools)
            self._kept.spools.append(self._paths)
            self._paths = []
        self._unlink()
        return self._batches

    @property
    def _folder(self) -> Path:
        return folder() if self._kept is None else self._kept.folder

    def _open(self, like: pa.RecordBatch) -> pa.ipc.RecordBatchStreamWriter:
        """The writer of the file that is open, or of the next one."""
        if self._writer is not None and self._kept is not None and self._bytes >= self._kept.file_bytes:
            self._close()
        if self._writer is None:
            if self._kept is not None:
                path = self._kept.new_file()
            else:
                descriptor, name = tempfile.mkstemp(prefix="onetrunk-", suffix=".arrow")
                os.close(descriptor)
                path = Path(name)
            self._paths.append(path)
            self._writer, self._bytes = pa.ipc.new_stream(str(path), like.schema), 0
        return self._writer

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _unlink(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._paths = []

    def __del__(self) -> None:
        self._unlink()  # of a reading that failed


def mapped_batches(path: Path) -> list[pa.RecordBatch]:
    """The record batches of a file that a spool has written, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        return list(pa.ipc.open_stream(file))


class ArrowValues(Values):
    """A column of Arrow arrays, each with what makes Python values of it; `cells` makes what stands in a text file.
    `origin`: the number of the kept spool whose column it is, and which one."""

    def __init__(
        self,
        arrays: Sequence[pa.Array],
        decoders: Sequence[Decode],
        index: np.ndarray | None = None,
        cells: Decode | None = None,
        origin: tuple[int, int] | None = None,
    ) -> None:
        self._arrays, self._decoders, self._index, self._cells = arrays, decoders, index, cells
        self.origin = origin
        self._ends = np.cumsum([len(array) for array in arrays], dtype=np.int64)

    def __len__(self) -> int:
        if self._index is not None:
            return len(self._index)
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def decoding(self) -> tuple[list[tuple[str, ...]], tuple[str, ...] | None]:
        """The names of what makes values of each array, and of what makes cells."""
        return [decode.name for decode in self._decoders], None if self._cells is None else self._cells.name

    def take(self, index: np.ndarray) -> Values:
        index = index if self._index is None else take(self._index, index)
        return ArrowValues(self._arrays, self._decoders, index, self._cells)

    @property
    def written(self) -> Sequence[Any]:
        if self._cells is None:
            return self
        return ArrowValues(self._arrays, [self._cells] * len(self._arrays), self._index)

    def present(self) -> np.ndarray:
        if self._index is not None:
            return present_at(self._index, self._ends, self._present_of)
        parts = [self._present_of(number, np.arange(len(array))) for number, array in enumerate(self._arrays)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)

    def _present_of(self, number: int, local: np.ndarray) -> np.ndarray:
        if not len(local):
            return np.zeros(0, dtype=bool)
        first, last = int(local.min()), int(local.max()) + 1
        there = self._decoders[number].present(self._arrays[number].slice(first, last - first))
        return there.to_numpy(zero_copy_only=False).astype(bool)[local - first]

    def blocks(self, size: int = BLOCK) -> Iterator[list[Any]]:
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            rows = np.arange(first, last) if self._index is None else self._index[first:last]
            yield scattered(rows, self._ends, self._of)

    def _of(self, number: int, local: np.ndarray) -> list[Any]:
        array = self._arrays[number]
        if len(local) and local[-1] - local[0] == len(local) - 1 and (np.diff(local) == 1).all():
            array = array.slice(int(local[0]), len(local))
        else:
            array = array.take(pa.array(local))
        return self._decoders[number].values(array)


class Missing(Repeated):
    """A column that the rows of a spool lack."""

    def __init__(self, n: int, spool: int | None) -> None:
        super().__init__(None, n)
        self.spool = spool
