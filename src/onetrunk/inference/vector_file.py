"""Vectors of rows as a .npy file, written block by block. A command that was killed goes on after its last block."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from onetrunk.data.spool import IN_MEMORY_BYTES
from onetrunk.inference.part_file import PartFile
from onetrunk.storage.disk import disk_errors


class VectorFile:
    """`with VectorFile(out, (n, D)) as file: file.append(block)`, until all n rows are there. At the end it is put at
    `out`, if that is a .npy file; if not, it is gone: what `out` is to be is made inside, of what `read` returns.

    With a `command` (equal for a command given twice) a file whose writer was killed is gone on with: `first` is the
    first row that it lacks, and `beside` what the last `append` was told to keep.
    """

    def __init__(self, out: Path, shape: tuple[int, int], command: str | None = None) -> None:
        self.out, self.shape, self.first = out, shape, 0
        self.beside: Any = None
        self._stays = out.suffix.lower() == ".npy"
        self._part = PartFile(out if self._stays else out.with_name(f"{out.name}.npy"), command)

    def __enter__(self) -> Self:
        with disk_errors(self.out):
            self._part.open()
            if (left := self._part.state) is not None:
                self.first, self.beside = left["first"], left["beside"]
            else:
                with self._part.path.open("wb") as file:
                    told = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
                    np.lib.format.write_array_header_1_0(file, told)
        return self

    def append(self, vectors: np.ndarray, beside: Any = None) -> None:
        """Those of the next rows, float32 [m, D]. ResourceError where they cannot be written."""
        with disk_errors(self.out):
            with self._part.path.open("ab") as file:
                file.write(np.ascontiguousarray(vectors, dtype="<f4").data)
            self.first += len(vectors)
            self._part.commit(first=self.first, beside=beside)

    def read(self) -> np.ndarray:
        """All of them, float32 [n, D]; where they are many, mapped."""
        large = self.shape[0] * self.shape[1] * 4 > IN_MEMORY_BYTES
        vectors: np.ndarray = np.load(self._part.path, mmap_mode="r" if large else None)
        return vectors.view(np.ndarray)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is not None:
            if issubclass(kind, Exception):
                self._part.discard()  # the same would happen again
            self._part.close()
        elif self._stays:
            with disk_errors(self.out):
                self._part.finish()
        else:
            self._part.discard()
