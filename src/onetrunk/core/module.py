"""The network side of a column type: embeds its values, and reads its answers out of the trunk's states.

What only some types can do is a small class of its own, which a module inherits or does not, asked with `isinstance`:
`Guided`, `Searched`, `Distribution`, `Calibrated`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.calibration import Calibration
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.encoder import Encoder, Growth
from onetrunk.core.errors import UsageError

E = TypeVar("E", bound=Encoder)


class ColumnModule(nn.Module, ABC, Generic[E]):
    """Base of all modules: built from a fitted encoder, for a trunk of one width."""

    pooled: bool = False  # is the read-out given the slot's state joined with the mean of the given states?
    read_out: ClassVar[tuple[str, ...]] = ("head",)  # parameters or modules that `loss` uses, and `embed` does not
    wide_outputs: int = 0  # numbers of a wide read-out that the read-out is given too, at the end (`model.wide`)

    def __init__(self, encoder: E, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.width = width

    @property
    def read_width(self) -> int:
        """How many numbers the read-out is given at a position."""
        return self.width * (2 if self.pooled else 1) + self.wide_outputs

    @property
    def options(self) -> Any:
        return self.encoder.options

    @property
    def reads_trunk(self) -> bool:
        """Does an answer depend on the trunk? Not where a wide read-out answers alone: the trunk's states then weigh
        nothing, to the bit, and need not be computed."""
        return not self.wide_outputs or self._weighs_states()

    def _weighs_states(self) -> bool:
        """Is any weight of what is read from the trunk other than zero?"""
        return True

    def attach_wide(self, outputs: int) -> None:
        """From now on the read-out is given so many numbers more, to which it adds its own (`model.wide`)."""
        self.wide_outputs = outputs

    def grow(self, growth: Growth) -> None:
        """Follows `Encoder.extend`: new rows begin as the mean of those the growth names; learnt ones stay."""
        if len(growth):
            raise NotImplementedError(f"{type(self).__name__} has nothing that could grow")

    def fix(self, dtype: torch.dtype) -> None:
        """From now on it only answers: products with large weights may be computed in `dtype`, by weights as they are
        now (`nn.fixed`)."""

    @abstractmethod
    def embed(self, content: dict[str, Tensor]) -> Tensor:
        """Content of a whole batch to [n, D]."""

    @abstractmethod
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """h [r, D] (or [r, 2 D] where `pooled`) and targets [r, ...] to a weighted sum, its count, each read's own."""

    # -- the decoding loop -------------------------------------------------------------------------------------------
    # A state is the answers that are being made: tensors [n, ...], always with `done` bool [n], and with `phase` int64
    # [n] where the steps are of several kinds. Answers of several requests are joined in one state, those of one phase,
    # and leave it one by one: so every row is of its own answer alone. Rows that become longer (tokens so far) are
    # padded at the end with zeros when they are joined with longer ones.
    @abstractmethod
    def start(self, context: AnswerContext) -> State:
        """The state before the first step."""

    @abstractmethod
    def query(self, state: State) -> Query:
        """What to embed next. Not called while the column is read on another's positions."""

    @abstractmethod
    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        """h [n, t, D] (or [n, t, 2 D]) of the query's positions, or of the column it is read on; `unconditional` is h
        with nothing given, where a `Guided` one is guided."""

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        """How many positions of the trunk an answer takes at most, int64 [n], where its prompt has so many elements
        [n]: those that are kept, and those of the longest query beside them."""
        return np.ones_like(prompt)

    @abstractmethod
    def finish(self, state: State) -> list[Answer]:
        """Answers in the column's own units."""


class Guided:
    """Answers can be guided away from those with nothing given (arXiv 2207.12598)."""


class OneStep:
    """An answer is made in one step, of one position that nobody sees later: it can be read together with what is given
    (`inference.at_once`)."""


class Searched:
    """Answers can be searched for with beams: started with each document `beams` times, one beside the other, `step`
    also leaves `order` int64 [n] in the state: which document each beam goes on from, best first."""


class Growing:
    """`finish` can be asked before an answer is done, for what there is of it so far."""


class Constrained(ABC):
    """What it writes can be held to a grammar. Its states have `forbidden` int32 [n, W], in whose bits stands which
    tokens the next step must not draw; W is 0 where no answer is held to anything."""

    @abstractmethod
    def drawn(self, state: State) -> Tensor:
        """The token that the last step drew, int64 [n]; -1 where it drew none."""


class Blockwise(ABC):
    """Reads a prompt in blocks of so many elements, and then the rest: what a block leaves in the cache depends on what
    stands before its end alone, so that prompts with one beginning can share it to the bit."""

    block: ClassVar[int]

    @abstractmethod
    def prompt_blocks(self, state: State) -> list[list[bytes]]:
        """Of each answer, a name for each block of its prompt: equal where prompts are equal up to the block's end."""

    @abstractmethod
    def blocks_read(self, state: State) -> Tensor:
        """How many of them have been read, int64 [n]."""

    @abstractmethod
    def skip_blocks(self, state: State, blocks: Tensor) -> State:
        """The state after so many of the first blocks, int64 [n], that need not be read."""


class Filling(ABC):
    """Its encoder is `Gapped`."""

    @abstractmethod
    def fill(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """States at r gaps to what fills each likeliest, int64 [r], and the natural log of its probability, [r]."""


class Distribution(ABC):
    """Answers are a distribution over a closed set, from which a student can learn."""

    @abstractmethod
    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        """How far what is read from h is from a teacher's distribution, made of the same knowledge, at each of r reads:
        T² KL(teacher's || own) of both at temperature T (Hinton et al. 2015, arXiv 1503.02531), float32 [r], nats."""


class Expected(ABC):
    """Answers are numbers, of which the mean is answered."""

    @abstractmethod
    def expected(self, h: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The mean of each of r reads, standardised, float32 [r]; its gradient reaches h. Of targets only what is known
        before the answer is looked at."""

    @property
    @abstractmethod
    def units(self) -> tuple[float, float, str]:
        """Where 0 and how large 1 is in units that a person reads, and what those are, as far as it is known."""


class Calibrated(ABC):
    """How sure answers are can be put right after training. `calibration` is used by whatever answers and judges, never
    by a loss that is being learnt from; which answer is given does not depend on it."""

    calibration: Calibration | None = None

    @abstractmethod
    def uncalibrated(self, h: Tensor) -> Tensor:
        """What answers are made of before they are calibrated, for reads h [r, D]: [r, ...]."""

    @abstractmethod
    def fit_calibration(
        self, outputs: Tensor, targets: dict[str, Tensor], fitted_on: str, learnt: int = 0
    ) -> Calibration | None:
        """What calibrates best, by a proper score, such outputs [r, ...] with their targets [r, ...], of a model that
        has learnt from so many other rows; None where there is no truth to learn from. Nothing is changed."""


class Mixed(ABC):
    """What it reads from the trunk and what a wide read-out says are added up, and each can be learnt alone."""

    @abstractmethod
    def mix(self, h: Tensor, targets: dict[str, Tensor]) -> float:
        """How much each should count, by the least loss on reads h [r, D], with the wide read-out's numbers at the end,
        and their targets. Weighs its own read-out accordingly, and returns the share of the wide one."""


def with_distribution(module: ColumnModule[Any]) -> Any:
    """The module, from which a student can learn. Raises UsageError where its answers are no distribution."""
    if not isinstance(module, Distribution):
        raise UsageError(
            f"The column type {module.encoder.type_name!r} has no distribution over a closed set that a student could "
            "learn from."
        )
    return module


def grown(parameter: Tensor, rows: list[list[int]], first: int = 0) -> nn.Parameter:
    """A table [V, ...] with new rows at its end, each the mean of the rows named; of none named, of all from
    `first` on."""
    old = parameter.data
    new = [old[chosen].mean(0) if chosen else old[first:].mean(0) for chosen in rows]
    return nn.Parameter(torch.cat([old, torch.stack(new)]))


def grown_bias(bias: Tensor, count: int) -> nn.Parameter:
    """A bias [V] with `count` more at its end: new classes are as likely as the least likely one."""
    return nn.Parameter(torch.cat([bias.data, bias.data.min().expand(count)]))
