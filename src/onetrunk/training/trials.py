"""A trial: one model, made in one way with some settings, and how good it is on the validation rows by a proper score.

`tune` looks for the best among many. What is tried, what it gained and what it took is the same record everywhere, and
goes into the evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

Method = Literal["wide", "scratch", "pretrained", "frozen", "lora"]
State = Literal["finished", "stopped early", "failed"]

METHODS: dict[Method, str] = {
    "wide": "the wide read-out alone",
    "scratch": "trained from nothing",
    "pretrained": "pretrained, then all of it fine-tuned",
    "frozen": "pretrained, its trunk frozen",
    "lora": "pretrained, its trunk changed by LoRA",
}
STARTED: tuple[Method, ...] = ("pretrained", "frozen", "lora")  # methods that begin with a pretrained model


@dataclass(frozen=True)
class TrialSettings:
    """What a model is made with. `rate` is a share of the recipe's learning rates."""

    method: Method
    size: str
    rate: float = 1.0
    dropout: float = 0.0
    weight_decay: float = 0.01

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.method == "wide":
            return METHODS["wide"]
        return (
            f"{self.size}, {METHODS[self.method]}, rate × {self.rate:.2g}, dropout {self.dropout:g}, "
            f"weight decay {self.weight_decay:.2g}"
        )


@dataclass(frozen=True)
class Trial:
    """`score` is the mean over validation rows of a proper loss (nats of classes, squared error of numbers in standard
    units): less is better. `standard_error` is that mean's."""

    number: int
    settings: TrialSettings
    state: State
    score: float | None = None
    standard_error: float | None = None
    seconds: float = 0.0
    steps: int = 0
    note: str = ""

    @classmethod
    def judged(cls, number: int, settings: TrialSettings, losses: np.ndarray, seconds: float, steps: int = 0) -> Trial:
        """A finished one, by the loss of each validation row, float64 [rows], at least 2."""
        return cls(number, settings, "finished", *mean_and_error(losses), round(seconds, 2), steps)

    def as_json(self) -> dict[str, Any]:
        """Flat: a line of a table. `what` is for a person."""
        measured = ("state", "score", "standard_error", "seconds", "steps", "note")
        settings = {"what": str(self.settings), **self.settings.as_json()}
        return {"trial": self.number, **settings, **{name: getattr(self, name) for name in measured}}


def mean_and_error(losses: np.ndarray) -> tuple[float, float]:
    """The mean of losses float64 [rows], and its standard error."""
    return float(losses.mean()), float(losses.std(ddof=1) / len(losses) ** 0.5)


@dataclass
class Outcome:
    """What a trial came to. `model` is whatever the caller can keep."""

    score: float
    standard_error: float
    steps: int
    model: Any = field(repr=False, default=None)


class StoppedEarly(Exception):
    """Raised out of a trial that is worse than others were at this point."""


Report = Callable[[float], None]  # takes a loss of a validation, less is better; raises StoppedEarly


def best(trials: list[Trial]) -> Trial | None:
    """The finished trial of the least score; the first of equal ones."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.score is not None]
    return min(finished, key=lambda trial: (trial.score, trial.number), default=None)
