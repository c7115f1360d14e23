"""Frozen weights in 4 bits (NF4 of QLoRA, arXiv 2305.14314), by bitsandbytes, on a CPU or a GPU.

A block of 64 weights shares its largest absolute value; each is the nearest of 16 quantiles of a normal distribution.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.low_bits import library

BLOCK = 64


def _library() -> Any:
    return library("A base in 4 bits")


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight as bytes, two values each, and the blocks' largest values. Raises MissingExtraError."""
    packed, state = _library().functional.quantize_4bit(weight.detach(), blocksize=BLOCK, quant_type="nf4")
    return packed, state.absmax


def linear(x: Tensor, packed: Tensor, absmax: Tensor, bias: Tensor | None, shape: tuple[int, int]) -> Tensor:
    """`F.linear` with a weight of this shape that was packed; like it, in autocast's precision. The whole weight exists
    only while it is multiplied."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    functional = _library().functional
    state = functional.QuantState(
        absmax, shape=torch.Size(shape), code=_code(x.device), blocksize=BLOCK, quant_type="nf4", dtype=x.dtype
    )
    return _library().matmul_4bit(x, packed, state, bias=None if bias is None else bias.to(x.dtype))


@cache
def _code(device: torch.device) -> Tensor:
    return _library().functional.get_4bit_type("nf4", device)
