"""Tensors of PyTorch in safetensors files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from onetrunk.core.errors import ModelFileError
from onetrunk.storage.header import tensor_shapes
from onetrunk.storage.regular import RESTORE


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes one safetensors file; tensors that share memory are written each. Disk faults raise OSError."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        out[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    try:
        safetensors.torch.save_file(out, path)
        os.chmod(path, _usual_mode())  # safetensors lets nobody else read it, unlike the files beside it
    except SafetensorError as error:
        number = re.search(r"os error (\d+)|Os \{ code: (\d+)", str(error))  # the second before safetensors 0.6
        if number is None:
            raise
        code = int(number[1] or number[2])
        raise OSError(code, os.strerror(code), str(path)) from error


def _usual_mode() -> int:
    """Of a file that this process makes in the usual way."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def load_tensors(path: Path, expected_shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Tensor]:
    """Reads one safetensors file, on the CPU. With `expected_shapes`, names and shapes must match before any
    memory is taken. Raises ModelFileError for anything but a whole safetensors file.
    """
    shapes = tensor_shapes(path)
    if expected_shapes is not None:
        for name in sorted(expected_shapes.keys() ^ shapes.keys()):
            problem = "is missing" if name in expected_shapes else "is not expected"
            raise ModelFileError(f"{path}: the tensor {name!r} {problem}. The file belongs to another model.")
        for name, expected in expected_shapes.items():
            if tuple(expected) != shapes[name]:
                raise ModelFileError(
                    f"{path}: the tensor {name!r} should have shape {list(expected)}, found "
                    f"{list(shapes[name])}. The file belongs to another model."
                )
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is damaged: {error}. {RESTORE}") from None
