"""The time that a run may take, all in all: training, judging, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_JUDGING_SHARE = 0.05  # of the time, before it is known how long judging takes
_MORE = 1.3  # the last judging may take so many times the longest one so far
_END_SHARE = 0.02  # of the time: to end


class TimeBudget:
    """`seconds` from when it `began`, now unless told. `left` is what training may still take, so that a model can then
    be judged in time."""

    def __init__(self, seconds: float, began: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._began = clock() if began is None else began
        self._judging = _JUDGING_SHARE * seconds

    @property
    def gone(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds for training."""
        return max(0.0, self.before_end - _MORE * self._judging)

    @property
    def before_end(self) -> float:
        """Seconds for all that is left to do."""
        return (1 - _END_SHARE) * self.seconds - self.gone

    @contextmanager
    def judging(self) -> Iterator[None]:
        """What is done inside tells how long the last judging will take."""
        began = self._clock()
        yield
        self._judging = max(self._judging, self._clock() - began)
