"""What happens in a run, as typed events. A function that takes `on_event` calls it with each of them and prints
nothing: the command line shows them, a page can stream them, tests read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar


@dataclass(frozen=True)
class Event:
    """Base of all events: plain data."""

    def as_json(self) -> dict[str, Any]:
        return {"event": type(self).__name__, **asdict(self)}


Listener = Callable[[Event], None]
E = TypeVar("E", bound=Event)


def ignore(event: Event) -> None:
    """The listener that nobody is behind."""


class Collected(list[Event]):
    """A listener that keeps the events, in order."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self if isinstance(event, kind)]


# -- opening data ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Note(Event):
    """A sentence that a person should read."""

    message: str


@dataclass(frozen=True)
class Heading(Event):
    """What follows belongs together."""

    title: str


@dataclass(frozen=True)
class RolesChosen(Event):
    """Columns and their types; those left out, and why."""

    given: dict[str, str]
    asked: dict[str, str]
    left_out: dict[str, str]


@dataclass(frozen=True)
class RowsSplit(Event):
    """How many rows each split has, and how they were divided."""

    rows: dict[str, int]
    how: str


@dataclass(frozen=True)
class LedgerLine(Event):
    """What of one column was dropped, cut, repaired or repeated, how often and why."""

    message: str


# -- the model -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ColumnAdded(Event):
    """A model that met new data has got a column."""

    name: str
    type: str


@dataclass(frozen=True)
class ColumnExtended(Event):
    """A column that the model knew has learnt of new classes or words."""

    name: str
    added: int


@dataclass(frozen=True)
class Saved(Event):
    """Something is in its place: a model folder, an export, answers."""

    what: str
    path: str


# -- training --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class StageStarted(Event):
    """`documents`: of each objective, in a step."""

    stage: str
    rows: int
    steps: int
    parameters: int
    documents: dict[str, int]


@dataclass(frozen=True)
class StepsStarted(Event):
    """`step` updates are done already, in an earlier run that this one goes on from."""

    stage: str
    step: int
    steps: int


@dataclass(frozen=True)
class StepDone(Event):
    """`mfu`: the share of the machine's rate of products that is used. `epsilon`: what private training has cost. `wh`
    and `co2_g`: what the stage has cost so far, measured or estimated; None where nobody counts."""

    stage: str
    step: int
    steps: int
    loss: float
    tokens_per_s: float
    mfu: float | None
    memory_bytes: int
    epsilon: float | None = None
    wh: float | None = None
    co2_g: float | None = None
    energy_measured: bool = False


@dataclass(frozen=True)
class StepsEnded(Event):
    """No more steps follow, for whatever reason."""

    stage: str


@dataclass(frozen=True)
class RowsAnswered(Event):
    """So many rows of a table are answered, of so many, those of an earlier run among them."""

    rows: int
    of: int


@dataclass(frozen=True)
class AnsweringEnded(Event):
    """No more rows follow, for whatever reason."""


@dataclass(frozen=True)
class PartPrepared(Event):
    """One more of the parts of a preparation is done: `what` they are, in words ("files read")."""

    what: str
    done: int
    of: int


@dataclass(frozen=True)
class FoldDone(Event):
    """One fold of a cross-validation: the metric of the model as it was, and after training on the other folds."""

    fold: int
    folds: int
    metric: str
    pretrained: float | None
    tuned: float | None


@dataclass(frozen=True)
class TrialDone(Event):
    """One of many models has been made and judged by a proper score on the validation rows (less is better), which is
    None where it was stopped early or failed, as `note` says. `is_best`: so far."""

    number: int
    settings: str
    state: str
    score: float | None
    is_best: bool
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class BaselineDone(Event):
    """A simple baseline of the column `ask` has been judged; `value` is None where it was left out, as `note` says."""

    ask: str
    name: str
    metric: str
    value: float | None
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class CalibrationDone(Event):
    """How sure answers of a column are was put right on `rows` rows; `before` and `after` are what it was fitted by."""

    column: str
    rows: int
    fitted_on: str
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class Decision(Event):
    """What was chosen, and why; `values` are the figures that it rests on."""

    chosen: str
    reason: str
    values: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class CostCounted(Event):
    """What a run has cost: seconds, watt-hours (`measured`, or estimated), grams of CO2, and the most bytes held."""

    verb: str
    seconds: float
    wh: float
    co2_g: float
    peak_bytes: int
    measured: bool


@dataclass(frozen=True)
class StageFinished(Event):
    """`value`: of the metric that chose the best step, which is `best_step`; None without validation rows."""

    stage: str
    steps: int
    seconds: float
    value: float | None
    best_step: int | None
