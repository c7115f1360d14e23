"""How fast this machine multiplies matrices: what a training step's floating-point operations are compared with.

The share is called MFU, model FLOP utilisation (arXiv 2204.02311): operations that the model's formula asks for, in a
second of a whole step (batches, optimizer and all), of those that a large product alone makes. What is padding, or
computed twice, does not count.
"""

from __future__ import annotations

import time
from functools import cache

import torch

_SIDE = 2048  # of the product
_SECONDS = 0.15  # to measure for; the fastest product counts: the others shared the machine


@cache
def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, measured once (a fraction of a second)."""
    a = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
    times: list[float] = []
    while len(times) < 3 or sum(times) < _SECONDS:
        start = now(device)
        a @ a
        times.append(now(device) - start)
    return 2 * _SIDE**3 / min(times)


def now(device: torch.device) -> float:
    """Seconds of a monotonic clock, once the device has done what it was told before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
