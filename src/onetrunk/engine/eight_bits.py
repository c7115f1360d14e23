"""Optimizer state in 8 bits between steps (arXiv 2110.02861), by bitsandbytes, on a CPU or a GPU.

A block of a matrix row shares its largest absolute value; each number is the nearest of 256, dense near zero. Blocks
end where rows end, so that state is divided among processes as its parameter is.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.low_bits import library

SCALES = "_scales"  # the key of a state's largest values, behind its own
_BLOCKS = (256, 128, 64)  # the library's that are small
_UNSIGNED = ("exp_avg_sq", "sum")  # keys of state that is never negative


def _functional() -> Any:
    """Raises MissingExtraError."""
    return library("Optimizer state in 8 bits").functional


def pack(state: dict[str, Any]) -> None:
    """Of one parameter, in place: what blocks fill becomes bytes, the nearest of the library's 256, and scales."""
    for key, value in list(state.items()):
        if isinstance(value, Tensor) and value.is_floating_point() and (block := _block(value)):
            scales = value.new_empty(len(value), value.shape[1:].numel() // block)
            packed = torch.empty_like(value, dtype=torch.uint8)
            if len(value):  # none of a parameter's rows may be this process's
                code = _code(key in _UNSIGNED, value.device)
                packed, rest = _functional().quantize_blockwise(value.contiguous(), code=code, blocksize=block)
                scales = rest.absmax.view_as(scales)
            state[key], state[key + SCALES] = packed, scales


def unpack(state: dict[str, Any]) -> None:
    """The inverse, as near as 8 bits are."""
    for key in [key for key in state if key + SCALES in state]:
        packed, scales = state[key], state.pop(key + SCALES)
        value, block = scales.new_empty(packed.shape), packed.shape[1:].numel() // scales.shape[1]
        if len(packed):
            code = _code(key in _UNSIGNED, packed.device)
            value = _functional().dequantize_blockwise(packed, absmax=scales.flatten(), code=code, blocksize=block)
        state[key] = value


def _block(value: Tensor) -> int:
    """The largest that fills the rows; 0 where none does."""
    if value.ndim < 2:
        return 0
    return next((block for block in _BLOCKS if value.shape[1:].numel() % block == 0), 0)


@cache
def _code(unsigned: bool, device: torch.device) -> Tensor:
    return _functional().create_dynamic_map(signed=not unsigned).to(device)
