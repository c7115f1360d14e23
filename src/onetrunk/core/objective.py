"""The contract of an objective: one file in `objectives/` that defines an `Objective` and names it `OBJECTIVE`.

`assign_roles` chooses roles (on the CPU, keyed); `loss` turns what the view offers into named losses. An objective may
own parameters (a critic, a projection), and say how those, or some of its losses, are trained: `groups`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from onetrunk.core.batch import Batch, Loss, Read
from onetrunk.core.config import Config
from onetrunk.core.encoder import Encoder
from onetrunk.core.hidden import Hidden
from onetrunk.core.module import ColumnModule
from onetrunk.core.registry import column_types


class ObjectiveConfig(Config):
    """What one objective does in a step. A task fixes `given` and `ask`; without them roles are drawn."""

    kind: str
    weight: float = Field(1.0, ge=0)
    documents: int = Field(64, ge=1)  # a step
    given: list[str] | None = None
    ask: list[str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)  # of this kind


@dataclass
class RoleAssignment:
    """Documents: rows of the table [m], and what each column does in them, its role [m, C] (values of `Role`).

    `unit` documents in a row stay in one micro-batch (two views of one row).
    """

    rows: np.ndarray
    roles: np.ndarray
    keys: np.ndarray
    unit: int = 1


class BatchEncoder(Protocol):
    """What an objective asks of a model (`model.FoundationModel`)."""

    width: int

    @property
    def blocks(self) -> Sequence[nn.Module]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> Mapping[str, Any]: ...

    def encoder(self, column: str) -> Encoder: ...

    def module(self, column: str) -> ColumnModule[Any]: ...

    def embed(self, column: str, content: dict[str, Tensor], role_n: Tensor) -> Tensor: ...

    def encode(
        self, batch: Batch, embeddings: Mapping[str, Tensor] | None = None, capture: Collection[str] = ()
    ) -> Hidden: ...

    def read(self, hidden: Hidden, column: str, at: Read | None = None) -> Tensor: ...


class View(Protocol):
    """What an objective may look at in a step."""

    model: BatchEncoder
    batch: Batch

    @property
    def hidden(self) -> Hidden:
        """The batch as the model encodes it, once for all objectives."""

    def wants(self, name: str) -> bool:
        """Is this loss asked for now? Others may be left out."""

    def reads(self, tag: str) -> dict[str, Read]:
        """Where this objective reads each of its columns; nowhere, in columns that the batch does not read."""

    def losses(self, tag: str) -> dict[str, Loss]:
        """Every read of this objective through its column's read-out, as `tag/column`."""

    def pooled(self, tag: str) -> Tensor:
        """The mean of the given states of this objective's documents, as their roles were assigned: [k, D]."""


@dataclass(frozen=True)
class LossGroup:
    """Losses that are lowered by an update of their own, before that of the model (a critic's).

    Only `parameters` learn from them. `optimizer` holds settings that differ from the run's (`optimizer`, `lr`, `betas`
    ...). `merge` says how gradients of several losses become one: `sum`, `pcgrad` (conflicts are taken out) or
    `alternate` (losses take turns, one a step). `updates`: how many in a step.
    """

    name: str
    losses: tuple[str, ...]
    parameters: Sequence[nn.Parameter]
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    merge: str = "sum"
    updates: int = 1


class Objective(nn.Module, ABC):
    """`tag` is its name in a run; `columns` are the run's columns in order, `encoders` theirs."""

    Options: ClassVar[type[Config]] = Config  # what a user may set for this kind
    compares_rows: ClassVar[bool] = False  # does the loss of a row depend on other rows of its batch?

    def __init__(self, tag: str, config: ObjectiveConfig, columns: list[str], encoders: list[Encoder]) -> None:
        super().__init__()
        self.tag, self.config, self.columns = tag, config, columns
        self.encoders = encoders
        self.options = self.Options.parse(config.options, f"the options of the objective {config.kind}")

    def build(self, width: int) -> None:
        """Creates parameters of its own, where it has any, for a trunk of this width. Random numbers are keyed
        outside."""

    def module_type(self, column: str) -> type[ColumnModule[Any]]:
        """The class of a column's module: it says what answers of its type can do."""
        return column_types.get(self.encoders[self.columns.index(column)].type_name).module

    @abstractmethod
    def turns(self, present: np.ndarray, windows: np.ndarray) -> np.ndarray:
        """How often each row comes up in one pass over the table, a number [rows]: 0 where it teaches nothing. present,
        windows [rows, C]."""

    @abstractmethod
    def assign_roles(self, rows: np.ndarray, present: np.ndarray, keys: np.ndarray) -> RoleAssignment:
        """Roles for drawn rows [m], their present columns bool [m, C] and keys [m]."""

    @abstractmethod
    def loss(self, view: View) -> dict[str, Loss]:
        """Named sums and counts; the names start with the tag."""

    def count(self, assigned: RoleAssignment) -> dict[str, float]:
        """Counts of losses that are not reads of a column (those are counted from their targets)."""
        return {}

    def groups(self) -> Sequence[LossGroup]:
        """Losses and parameters that are trained apart from the model's. The rest joins the model's."""
        return ()
