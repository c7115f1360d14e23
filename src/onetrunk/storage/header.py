"""The header of a safetensors file: which arrays it declares, with nothing else read.

Files from outside are data, never code; content decides what a file is, never its name.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from onetrunk.core.errors import ModelFileError
from onetrunk.storage.regular import RESTORE, size_of_file
from onetrunk.storage.strict_json import parse_json

_MAX_HEADER_BYTES = 16 << 20
_MAX_TENSORS = 100_000
_DTYPES = {"BOOL", "U8", "I8", "I16", "I32", "I64", "U16", "U32", "U64", "F16", "BF16", "F32", "F64"}


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes a safetensors file declares."""
    entries, _ = read_header(path)
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}


def read_header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """What a safetensors file declares, name to dtype, shape and offsets, and where its data begins. Raises
    ModelFileError for another file, and for what is too large or malformed; offsets are the caller's to check."""
    size_of_file(path)  # refuses what is none
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
            length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
            _check_kind(path, start)
            if length > _MAX_HEADER_BYTES:
                raise ModelFileError(f"{path}: its header claims {length:,} bytes; at most {_MAX_HEADER_BYTES:,}.")
            header = start[8:] + stream.read(length - 1)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}. {RESTORE}") from None
    if len(header) < length:
        raise ModelFileError(f"{path} is truncated: {length:,} header bytes expected, {len(header):,} found.")
    declared = parse_json(path, header)
    declared.pop("__metadata__", None)
    if len(declared) > _MAX_TENSORS:
        raise ModelFileError(f"{path} declares {len(declared):,} tensors; at most {_MAX_TENSORS:,}.")
    for name, entry in declared.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ModelFileError(f"{path}: the tensor {name!r} has no proper shape. {RESTORE}")
        if not isinstance(entry.get("dtype"), str) or entry["dtype"] not in _DTYPES:
            raise ModelFileError(f"{path}: the tensor {name!r} has the unknown type {entry.get('dtype')!r}.")
    return declared, 8 + length


def _check_kind(path: Path, start: bytes) -> None:
    """A safetensors header is JSON after 8 bytes of length; content decides, never the extension."""
    if start[8:9] == b"{":
        return
    if start[:2] == b"PK" or start[:1] == b"\x80" or start[:6] == b"\x93NUMPY":
        raise ModelFileError(
            f"{path} is a pickle or a zip: pickle files can run code and are never opened; safetensors only. "
            "Convert it where you trust it."
        )
    raise ModelFileError(f"{path} is not a safetensors file, or it is truncated. {RESTORE}")
