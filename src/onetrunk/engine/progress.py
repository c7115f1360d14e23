"""Reports a trainer's steps as events, with the memory that is held and the energy that was used."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from onetrunk.core.events import Listener, Note, StepDone, StepsEnded, StepsStarted, ignore
from onetrunk.engine.cost import Cost, Meter

_COUNTED_EVERY = 1.0  # seconds: reading a board's counter can take as long as a small step


class Progress:
    """Tells a listener of the steps of one stage; with a meter also what it has cost so far."""

    def __init__(self, stage: str = "training", on_event: Listener = ignore, meter: Meter | None = None) -> None:
        self.stage, self.on_event, self.meter = stage, on_event, meter
        self._steps = 0
        self._cost: Cost | None = None
        self._counted = 0.0

    def start(self, step: int, steps: int) -> None:
        self._steps = steps
        self.on_event(StepsStarted(self.stage, step, steps))

    def update(
        self, step: int, loss: float, tokens_per_s: float, mfu: float | None = None, epsilon: float | None = None
    ) -> None:
        """`step` updates are done; `mfu` is the share of the machine's rate of products (`engine.runtime`), `epsilon`
        what private training has cost."""
        done = StepDone(self.stage, step, self._steps, loss, tokens_per_s, mfu, resident_bytes(), epsilon)
        if (cost := self._so_far(last=step == self._steps)) is not None:
            done = replace(done, wh=cost.wh, co2_g=cost.co2_g, energy_measured=cost.measured)
        self.on_event(done)

    def _so_far(self, last: bool) -> Cost | None:
        now = time.monotonic()
        if self.meter is not None and (self._cost is None or last or now - self._counted >= _COUNTED_EVERY):
            self._cost, self._counted = self.meter.so_far(), now
        return self._cost

    def note(self, message: str) -> None:
        """Something that a person should read."""
        self.on_event(Note(message))

    def close(self) -> None:
        self.on_event(StepsEnded(self.stage))


def resident_bytes() -> int:
    """Memory this process holds now; its peak where the system does not tell."""
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
