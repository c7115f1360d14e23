"""The switch between kernels written by hand for a CPU and PyTorch's own operations (`train.kernels`).

Each of these has its plain twin in the same file: the formula by PyTorch's operations, which is also what every other
device and the compiler take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

Kernels = Literal["auto", "plain"]

_chosen: Kernels = "auto"


def by_hand(x: Tensor, compiled: bool = False) -> bool:
    """Is what is done with x done by hand? On a CPU, where the switch does not say `plain`, and, but for what compiled
    code calls too (`compiled`), where nobody compiles."""
    return _chosen == "auto" and x.device.type == "cpu" and (compiled or not torch.compiler.is_compiling())


def plain() -> bool:
    """Does the switch ask for nothing but PyTorch's own operations?"""
    return _chosen == "plain"


@contextmanager
def kernels(choice: Kernels) -> Iterator[None]:
    """Inside, the switch is set, for the whole process."""
    global _chosen
    before, _chosen = _chosen, choice
    try:
        yield
    finally:
        _chosen = before
