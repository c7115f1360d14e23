"""Arrays of files that several processes map, each where it is: none of them is sent from one to the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np


class FileArray(np.ndarray):
    """A whole file, memory-mapped and read-only. Other processes of this machine are told its name, and no more; those
    of another machine, which may not see the file, get its values. What is taken out of it is a plain array."""

    path: Path | None = None

    @classmethod
    def map(cls, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        if not np.prod(shape, dtype=np.int64):
            return np.zeros(shape, dtype=dtype)
        array = np.memmap(path, dtype=dtype, mode="r", shape=shape).view(cls)
        array.path = path.absolute()
        return array

    def __getitem__(self, index: Any) -> Any:
        return self.view(np.ndarray)[index]

    def __reduce_ex__(self, protocol: Any) -> Any:
        together = os.environ.get("WORLD_SIZE", "1") == os.environ.get("LOCAL_WORLD_SIZE", "1")
        if self.path is not None and together:
            return FileArray.map, (self.path, self.dtype, self.shape)
        return np.ascontiguousarray(self.view(np.ndarray)).__reduce_ex__(protocol)
