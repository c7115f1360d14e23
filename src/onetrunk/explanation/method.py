"""The contract of a method of explanation: one file in `methods/` that ends with `METHOD = ItsClass`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onetrunk.core.errors import UsageError
from onetrunk.core.registry import explanations
from onetrunk.data.table import Table
from onetrunk.explanation.attribution import Explanation
from onetrunk.explanation.game import Game
from onetrunk.explanation.question import Question, needs_parts
from onetrunk.inference.model_folder import Model

DEFAULT = "marginals"


@dataclass(frozen=True)
class Settings:
    """What a method may be told. Each uses what it needs."""

    seed: int = 0
    samples: int = 512  # rows without some of their parts that a sampling method asks about, at most
    steps: int = 32  # on a way of integrated gradients
    rows: int = 5  # that are shown of a table
    model: Model | None = None
    train: Table | None = None  # rows that the model learnt from, where a method looks at them


class Method(ABC):
    """`explain` of one question."""

    attributes: ClassVar[bool] = True  # is there a number for every part, or column?
    needs_train: ClassVar[bool] = False  # does it look at training rows?

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def explain(self, game: Game) -> Explanation:
        """Raises UsageError where the method says nothing of such a model or answer."""


def method_named(name: str, settings: Settings) -> Method:
    """Raises UsageError for an unknown name, and where training rows are needed and not there."""
    made: Method = explanations.get(name)(settings)
    if made.needs_train and settings.train is None:
        raise UsageError(f"{name} looks at rows that the model learnt from: name them with --train.")
    return made


def explain(question: Question, method: str = DEFAULT, settings: Settings | None = None) -> Explanation:
    """One question by one method. Raises UsageError for a row of which nothing is given."""
    needs_parts(question)
    return method_named(method, settings or Settings()).explain(Game(question))


def named_methods(names: Sequence[str]) -> list[type[Method]]:
    """Their classes. Raises UsageError for a name that there is not."""
    return [explanations.get(name) for name in names]
