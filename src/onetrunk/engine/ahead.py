"""The next step's micro-batches, made while the device still computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Ahead(Generic[T]):
    """What `make` makes by number. While an accelerator computes, a thread makes the next one, up to `last`; a CPU has
    no cores to spare for that. What could not be made is raised where it is asked for."""

    def __init__(self, make: Callable[[int], T], last: int, device: torch.device) -> None:
        self._make, self._last = make, last
        self._thread = None if device.type == "cpu" else ThreadPoolExecutor(1, thread_name_prefix="onetrunk-ahead")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, number: int) -> T:
        waiting, self._next = self._next, None
        made = waiting[1].result() if waiting is not None and waiting[0] == number else self._make(number)
        if self._thread is not None and number < self._last:
            self._next = number + 1, self._thread.submit(self._make, number + 1)
        return made

    def close(self) -> None:
        """What is begun is finished, and forgotten."""
        self._next = None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
