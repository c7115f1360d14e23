"""The values of a file, as Arrow's record batches: in memory while they are few, else in a memory-mapped file.

The file has no name once it is mapped: it is gone when nobody looks at it any more, also after a kill. It lies in the
system's folder for temporary files (the variable TMPDIR names another).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onetrunk.core.values import BLOCK, Values, scattered
from onetrunk.storage.disk import disk_errors

IN_MEMORY_BYTES = 32 << 20  # of one table, or of one encoded column; above, it is kept in a file


@dataclass(frozen=True)
class Decode:
    """How Python values are made of an Arrow array."""

    values: Callable[[pa.Array], list[Any]]
    present: Callable[[pa.Array], pa.Array] = pc.is_valid  # where they are not None


def folder() -> Path:
    """Where files without names lie."""
    return Path(tempfile.gettempdir())


class Spool:
    """Takes record batches of one schema, and gives them back, once."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._path: Path | None = None
        self.first: pa.RecordBatch | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    @property
    def in_memory(self) -> bool:
        return self._writer is None

    def append(self, batch: pa.RecordBatch) -> None:
        """Raises ResourceError where the disk is full."""
        if self.first is None:
            self.first = batch
        if self._writer is None:
            self._batches.append(batch)
            self._bytes += batch.nbytes
            if self._bytes <= IN_MEMORY_BYTES:
                return
            descriptor, name = tempfile.mkstemp(prefix="onetrunk-", suffix=".arrow")
            os.close(descriptor)
            self._path = Path(name)
            self._writer = pa.ipc.new_stream(name, batch.schema)
            waiting, self._batches = self._batches, []
        else:
            waiting = [batch]
        with disk_errors(self._place):
            for each in waiting:
                self._writer.write_batch(each)

    def batches(self) -> list[pa.RecordBatch]:
        """All that was appended; nothing can be appended after."""
        if self._writer is None:
            return self._batches
        with disk_errors(self._place):
            self._writer.close()
            with pa.memory_map(str(self._place)) as file:
                self._batches = list(pa.ipc.open_stream(file))
        self._unlink()
        return self._batches

    @property
    def _place(self) -> Path:
        assert self._path is not None, "all is in memory"
        return self._path

    def _unlink(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def __del__(self) -> None:
        self._unlink()  # of a reading that failed


class ArrowValues(Values):
    """A column of Arrow arrays, each with what makes Python values of it; `cells` makes what stands in a text file."""

    def __init__(
        self,
        arrays: Sequence[pa.Array],
        decoders: Sequence[Decode],
        index: np.ndarray | None = None,
        cells: Decode | None = None,
    ) -> None:
        self._arrays, self._decoders, self._index, self._cells = arrays, decoders, index, cells
        self._ends = np.cumsum([len(array) for array in arrays], dtype=np.int64)

    def __len__(self) -> int:
        if self._index is not None:
            return len(self._index)
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, index: np.ndarray) -> Values:
        index = index if self._index is None else self._index[index]
        return ArrowValues(self._arrays, self._decoders, index, self._cells)

    @property
    def written(self) -> Sequence[Any]:
        if self._cells is None:
            return self
        return ArrowValues(self._arrays, [self._cells] * len(self._arrays), self._index)

    def present(self) -> np.ndarray:
        arrays = zip(self._decoders, self._arrays, strict=True)
        there = [decode.present(array).to_numpy(zero_copy_only=False).astype(bool) for decode, array in arrays]
        whole = np.concatenate(there) if there else np.zeros(0, dtype=bool)
        return whole if self._index is None else whole[self._index]

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
