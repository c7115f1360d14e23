"""The switch between kernels written by hand for a CPU and PyTorch's own operations (`train.kernels`).

Each of these has its plain twin in the same file: the formula by PyTorch's operations, which is also what every other
device and the compiler take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

Kernels = Literal["auto", "plain"]

P = ParamSpec("P")
R = TypeVar("R")

_chosen: Kernels = "auto"
_left_alone: list[Callable[[], None]] = []  # what tells the compiler so, of each function


def by_hand(x: Tensor, compiled: bool = False) -> bool:
    """Is what is done with x done by hand? On a CPU, where the switch does not say `plain`, and, but for what compiled
    code calls too (`compiled`), where nobody compiles."""
    return _chosen == "auto" and x.device.type == "cpu" and (compiled or not torch.compiler.is_compiling())


@contextmanager
def kernels(choice: Kernels) -> Iterator[None]:
    """Inside, the switch is set, for the whole process."""
    global _chosen
    before, _chosen = _chosen, choice
    try:
        yield
    finally:
        _chosen = before


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """A function that the compiler leaves alone, as by `torch.compiler.disable`, which imports the compiler: a second
    that only those should wait who compile."""
    called = [function]

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return called[0](*args, **kwargs)

    def leave_alone() -> None:
        called[0] = torch.compiler.disable(function)

    _left_alone.append(leave_alone)
    return call


def before_compiling() -> None:
    """Tells the compiler what it is to leave alone; to be called before anything is compiled."""
    while _left_alone:
        _left_alone.pop()()
