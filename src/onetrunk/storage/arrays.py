"""Named arrays in one file, in the safetensors format, written in blocks and memory-mapped when they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onetrunk.core.errors import ModelFileError
from onetrunk.storage.header import read_header

_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_AT_ONCE = 16 << 20  # bytes


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes them; no more than a block is copied. Disk faults raise OSError."""
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))  # so that each is aligned
    header, end = {}, 0
    for name, array in ordered:
        offsets = [end, end := end + array.nbytes]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in (np.atleast_1d(array) for _, array in ordered):
            rows = max(1, _AT_ONCE // max(1, array[:1].nbytes))
            for first in range(0, len(array), rows):
                file.write(np.ascontiguousarray(array[first : first + rows]).data)


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays, read-only, each memory-mapped. ModelFileError where the file is not there, or not whole."""
    entries, start = read_header(path)
    try:
        total = path.stat().st_size
        return {name: _mapped(path, entry, start, total) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is not a whole safetensors file: {error}.") from None


def _mapped(path: Path, entry: dict, start: int, total: int) -> np.ndarray:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(map(int, entry["shape"]))
    first, end = map(int, entry["data_offsets"])
    if (
        min(shape, default=0) < 0
        or first < 0
        or end - first != math.prod(shape) * dtype.itemsize
        or start + end > total
    ):
        raise ValueError(f"an array of shape {list(shape)} at {first} to {end} of {total - start} bytes")
    if end == first:
        return np.zeros(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + first, shape=shape).view(np.ndarray)
