"""What every stage of one training run needs to know, in one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from onetrunk.core.events import LedgerLine, Listener, ignore
from onetrunk.inference.model_folder import Model
from onetrunk.training.open_data import Data
from onetrunk.training.output import Output
from onetrunk.training.recipe import Recipe
from onetrunk.training.select import Judgement

RUNS = "runs"  # in provenance: what each run has cost by which a model was made


@dataclass(frozen=True)
class RunContext:
    """`out` is the folder that keeps checkpoints and metrics while training; `limit` bounds it, in seconds."""

    recipe: Recipe
    out: Path
    seed: int = 0
    max_bad: float = 0.01  # share of unusable values in a column from which the run stops
    limit: float | None = None
    on_event: Listener = ignore
    output: Output | None = None  # of which `out` is the folder, or a folder inside it
    teacher: Model | None = None  # a larger model, from whose answers fine-tuning learns too
    max_memory: float | None = None  # bytes that training may take
    on_validation: Callable[[Judgement], None] | None = None  # hears of each while fine-tuning; may raise to end it

    def but(self, **changes: Any) -> Self:
        """The same with some fields changed."""
        return replace(self, **changes)

    @property
    def resumes(self) -> bool:
        """May checkpoints in `out` be those of this run?"""
        return self.output is None or self.output.resumes

    def show_ledger(self, data: Data, rows: int) -> None:
        """Tells what was lost, once. Raises DataError where it is too much of `rows` rows."""
        lost = data.lost
        lost.check(rows, self.max_bad)
        for line in lost.lines():
            if line not in data.told:
                data.told.add(line)
                self.on_event(LedgerLine(line))
