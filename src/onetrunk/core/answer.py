"""What a model answers: one value of one column, in the column's own units; and how that is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.core.grammar import Grammar

MOST_TOP_LOGPROBS = 20  # of one token


@dataclass(frozen=True)
class Written:
    """How a value was written."""

    text: str  # what was written, without the prompt that it goes on from
    tokens: tuple[int, ...]  # by number, without the end
    logprobs: tuple[float, ...]  # of each token, natural logs
    cut: bool  # was there no more room before its end?
    # Of each token the likeliest ones at its place, with their natural logs, the likeliest first; empty where none
    # were asked for.
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    reused: int = 0  # tokens of the prompt that were not read again, because another request began with them


@dataclass
class Answer:
    """One row's answer for one asked column, in the column's own units."""

    value: Any
    probability: dict[str, float] | float | None = None  # of every class, or of the value
    sure: float | None = None  # how likely the value is, where `probability` is of every class
    interval: tuple[Any, Any] | None = None  # of a number or date, at `coverage`
    conformal_set: list[Any] | None = None  # classes among which the true one is, at `coverage`; perhaps none
    coverage: float | None = None  # how likely the set or the interval holds what is true
    samples: list[Any] | None = None
    scores: list[float] | None = None  # of a ranked list, the probability of each; of a history, of each step
    quantiles: dict[float, Any] | None = None  # by level, 0 to 1; of a number or date where they are asked for
    logprob: float | None = None  # natural log of the probability of the whole value
    written: Written | None = None  # of a value that is written token by token

    @property
    def of_classes(self) -> dict[str, float]:
        """The probability of every class, of an answer of a closed set."""
        assert isinstance(self.probability, dict), "only an answer of a closed set has a probability of every class"
        return self.probability

    @property
    def certainty(self) -> float | None:
        """How likely the value is, as far as the model says; of several classes at once the likeliest of them."""
        if isinstance(self.probability, dict):
            return self.sure if self.sure is not None else max(self.probability.values(), default=0.0)
        return self.probability


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. Greedy (`temperature=0`) unless told otherwise."""

    temperature: float = 0.0
    top_k: int = 0  # 0: no limit
    top_p: float = 1.0
    min_p: float = 0.0  # only what is at least this share as likely as the likeliest (arXiv 2407.01082); 0: no limit
    max_length: int = 256  # tokens, or patches, of an answer of unknown length
    guidance: float = 1.0  # classifier-free guidance (arXiv 2207.12598); 1 is none
    steps: int = 24  # ODE steps of a flow
    seed: int = 0
    quantiles: int = 0  # of a number or date: how many, evenly spaced, the answer also holds
    coverage: float = 0.9  # of an interval or a conformal set: how likely it holds what is true
    beams: int = 1  # kept at once in a search for the likeliest written answer; 1 takes the likeliest token each time
    top_logprobs: int = 0  # of each token written, how many of the likeliest at its place the answer also holds
    grammar: Grammar | None = None  # what is written follows it; log-probabilities are what they were without

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("temperature", 0 <= self.temperature < math.inf, "a number from 0"),
            ("top_k", self.top_k >= 0, "a whole number from 0"),
            ("top_p", 0 < self.top_p <= 1, "a number above 0, and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "a number from 0 to 1"),
            ("max_length", self.max_length >= 1, "a whole number from 1"),
            ("guidance", abs(self.guidance) < math.inf, "a finite number"),
            ("steps", self.steps >= 1, "a whole number from 1"),
            ("quantiles", self.quantiles >= 0, "a whole number from 0"),
            ("coverage", 0 < self.coverage < 1, "a number above 0 and below 1"),
            ("top_logprobs", 0 <= self.top_logprobs <= MOST_TOP_LOGPROBS, f"a whole number to {MOST_TOP_LOGPROBS}"),
        ):
            if not fits:  # of what is not a number nothing holds
                raise UsageError(f"{name} expects {expected}, found {getattr(self, name)}.")
        if self.beams < 1 or (self.beams > 1 and self.temperature > 0):
            raise UsageError(
                f"beams expects a whole number from 1, and above 1 no temperature: a search draws nothing; found beams "
                f"{self.beams} and temperature {self.temperature:g}."
            )
        if self.beams > 1 and (self.grammar is not None or self.top_logprobs):
            raise UsageError("An answer that is searched for with beams follows no grammar and has no top_logprobs.")
