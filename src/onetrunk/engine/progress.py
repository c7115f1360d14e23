"""Reports a trainer's steps as events, with the memory that is held."""

from __future__ import annotations

import sys
from pathlib import Path

from onetrunk.core.events import Listener, Note, StepDone, StepsEnded, StepsStarted, ignore


class Progress:
    """Tells a listener of the steps of one stage."""

    def __init__(self, stage: str = "training", on_event: Listener = ignore) -> None:
        self.stage, self.on_event = stage, on_event
        self._steps = 0

    def start(self, step: int, steps: int) -> None:
        self._steps = steps
        self.on_event(StepsStarted(self.stage, step, steps))

    def update(
        self, step: int, loss: float, tokens_per_s: float, mfu: float | None = None, epsilon: float | None = None
    ) -> None:
        """`step` updates are done; `mfu` is the share of the machine's rate of products (`engine.runtime`), `epsilon`
        what private training has cost."""
        self.on_event(StepDone(self.stage, step, self._steps, loss, tokens_per_s, mfu, resident_bytes(), epsilon))

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
