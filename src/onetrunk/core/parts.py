"""What an explanation needs to know of a column type: the parts of a value, and how a value is without some of them.
NumPy only.

An encoder whose values fall into parts is `Divided`. What an answer makes of its own column is `Continued`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.content import Content

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Parts:
    """The parts of one value, p of them, in order."""

    position: np.ndarray  # int64 [p]: which of the segment's positions each part is
    labels: list[str]  # [p] what a person calls each
    noun: str  # what one of them is: token, patch, frame, step
    grid: tuple[int, ...] = ()  # how they stand: rows and columns, or frames, rows and columns; else in one line
    spans: Sequence[tuple[int, int]] | None = None  # of a text: which of its characters each is
    text: str = ""  # the text that `spans` speak of

    @property
    def nouns(self) -> str:
        return f"{self.noun}{'es' if self.noun.endswith(('ch', 'x')) else 's'}"

    def __len__(self) -> int:
        return len(self.labels)


class Divided(ABC):
    """Values fall into parts, some of which can be left out: tokens, patches, steps."""

    by_value: ClassVar[bool] = False  # are parts left out of the value itself, not of the positions it takes?

    @abstractmethod
    def parts(self, content: Content, asked: bool) -> Parts:
        """Of one value, as its segment has them when it is given, or, what it goes on from, when it is `asked`."""

    @abstractmethod
    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        """The content of a segment whose positions `hidden` [n] say nothing of their values: what gradients begin
        from, and what stands in places that cannot be left empty."""

    def view(self, content: Content) -> np.ndarray | None:
        """One value as a picture that `Parts.grid` divides evenly, frames beside one another, uint8 [H, W] or
        [H, W, 3]; None where it is none."""
        return None

    def without(self, content: Content, left_out: np.ndarray, asked: bool) -> Content:
        """Of m times one value, each without some of its parts, bool [m, p]: as a wide read-out sees it and, with
        `by_value`, everything else too."""
        return content


class Continued(ABC):
    """An asked value goes on from what was there before: written texts, histories."""

    @abstractmethod
    def continued(self, before: Arrays | None, answer: Answer) -> tuple[Arrays, slice]:
        """What was there before and the answer, as one encoded value; and which of its reads are the answer's."""

    def read_labels(self, arrays: Arrays, reads: slice) -> list[str] | None:
        """What a person calls each of these reads, where each is explained by itself; None where they are one."""
        return None
