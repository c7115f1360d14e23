"""What an audit found, as plain data: `audit.json`. The page is made from this alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from onetrunk.core.events import Event
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.record import finite

FORMAT = 1
MOST_P = 0.01  # an audit looks at many gaps


# -- fairness ------------------------------------------------------------------------------------------------
@dataclass
class GroupFigure:
    """One figure of one group; `rows` are those that it is a figure of."""

    group: str
    rows: int
    value: Interval | None


@dataclass
class Gap:
    """How far the groups with enough rows are apart: the highest figure less the lowest. Groups that were shuffled are
    `by_chance` apart at most, in 99 of 100 shuffles. `p` is the share of shuffles whose groups differ as much, all of
    them together and each weighing by its rows, so that a small group cannot hide what large ones show."""

    high: str
    low: str
    value: Interval
    by_chance: float
    p: float

    @property
    def is_chance(self) -> bool:
        return self.p > MOST_P


@dataclass
class GroupMetric:
    """A figure of every group. `of` is the class that a rate is about; empty for the metric of the column."""

    name: str
    of: str
    groups: list[GroupFigure]
    gap: Gap | None  # None: fewer than two groups have enough rows


@dataclass
class Mitigation:
    """What would make a gap smaller, and what that costs: learnt on one half of the rows, measured on the other."""

    how: str  # in a few words
    equal: str  # the rate that it makes equal
    of: str  # the class
    fitted_on: int
    rows: int
    gap_before: Interval
    gap_after: Interval
    accuracy_before: Interval
    accuracy_change: Interval
    settings: dict[str, float]  # group to threshold, or group and class to weight
    judged: str = ""  # what was measured, where that is not the model itself


@dataclass
class Fairness:
    """One column that rows are grouped by."""

    column: str
    how: str  # how values became groups
    given: bool  # does the model see it?
    rows: int
    missing: int  # rows without a value of it
    metrics: list[GroupMetric]
    mitigations: list[Mitigation] = field(default_factory=list)
    note: str = ""


@dataclass
class Slice:
    """Rows of one group of one column: the metric there and on all other rows. `behind` is how many standard errors it
    is worse than on all rows; `p` is the share of shuffles whose worst slice is as far behind."""

    column: str
    group: str
    rows: int
    score: Interval
    elsewhere: float
    behind: float
    p: float


@dataclass
class Slices:
    """The worst of all that were `tried`. With shuffled scores the worst is `by_chance` behind at most, in 99 of 100
    shuffles."""

    tried: int
    by_chance: float
    worst: list[Slice]


# -- robustness ----------------------------------------------------------------------------------------------
@dataclass
class Disturbed:
    """The rows, disturbed so much. `lost` is how much worse the metric is than on the rows as they are (below 0:
    better), on the same rows."""

    severity: float
    changed: float  # share of the values that are others than before
    score: Interval | None
    lost: Interval | None
    unreadable: int = 0  # values that the model could not read any more; they counted as missing


@dataclass
class Robustness:
    """One way in which one column, or all of them, get worse."""

    column: str  # empty: all given ones
    name: str
    what: str
    unit: str  # of the severity
    steps: list[Disturbed]


@dataclass
class Shift:
    """Embeddings moved by this share of their length: rows that keep the true class above one half, moved against it
    and moved anywhere."""

    share: float
    against: Interval
    anywhere: Interval


@dataclass
class Adversary:
    """How the answers stand against somebody who knows the model."""

    rows: int
    unmoved: Interval
    shifts: list[Shift]
    note: str = ""


# -- privacy -------------------------------------------------------------------------------------------------
@dataclass
class Attack:
    """Who was in the training data? Members are told by `score`, which is higher for them if the attack works. Rows
    whose memberships were shuffled say what chance gives: at most `by_chance`, in 99 of 100 shuffles; each `p` is the
    share of shuffles with as high a figure."""

    score: str
    auc: Interval
    auc_by_chance: float
    auc_p: float
    tpr: Interval  # share of members found, at a threshold that at most 1 % of the others reach
    tpr_by_chance: float
    tpr_p: float

    @property
    def works(self) -> bool:
        return self.auc.value > self.auc_by_chance or self.tpr.value > self.tpr_by_chance


@dataclass
class Membership:
    members: int
    others: int
    attacks: list[Attack]
    note: str = ""


@dataclass
class Canary:
    """A planted value. `exposure` in bits: how many times it halved the guesses that its secret needs; `most` is what
    can be measured with these alternatives."""

    value: str
    exposure: float
    most: float
    alternatives: int


@dataclass
class OneRun:
    """Of canaries of which a coin left out half: `right` of so many `guesses` show that epsilon is above this, with
    this confidence."""

    epsilon: float
    canaries: int
    guesses: int
    right: int
    delta: float
    confidence: float


@dataclass
class Repetition:
    """Values that the model writes to their end from their beginning, word for word."""

    learnt: Interval  # share of training rows
    others: Interval  # of rows that it has never seen
    learnt_rows: int
    other_rows: int
    prompt: int  # characters that it is given
    compared: int  # characters that must be the same
    examples: list[str] = field(default_factory=list)


@dataclass
class Copy:
    """An answer beside the training value that is nearest to it, as `Encoder.show` makes them."""

    answer: dict[str, str]
    nearest: dict[str, str]
    distance: float


@dataclass
class Copies:
    """Are answers that are drawn (pictures, molecules) copies of training values? `near` is the share that is nearer to
    one than all but 1 % of `others` true values that were not learnt; `by_chance` is what it would be were they drawn
    as those are. `equal` answers are equal to a training value."""

    rows: int
    others: int
    near: Interval
    by_chance: float
    threshold: float  # distance
    median: float  # of the answers
    median_of_others: float
    equal: int
    examples: list[Copy] = field(default_factory=list)  # the nearest


@dataclass
class Privacy:
    membership: Membership | None = None
    canaries: list[Canary] = field(default_factory=list)
    repetition: Repetition | None = None
    one_run: OneRun | None = None
    promise: dict[str, Any] | None = None  # evaluation.promise.promise_of: what the accountant says
    copies: Copies | None = None
    note: str = ""


# -- security ------------------------------------------------------------------------------------------------
@dataclass
class Finding:
    """Something that a model folder should not hold."""

    file: str
    what: str
    where: str = ""  # line or key
    serious: bool = True


@dataclass
class Security:
    files: int
    bytes: int
    digests: int  # files whose SHA-256 was compared
    findings: list[Finding]


# -- all of it -----------------------------------------------------------------------------------------------
@dataclass
class AskedAudit:
    """What was found about the answers of one asked column."""

    ask: str
    given: list[str]
    rows: int
    metric: str
    higher_is_better: bool
    score: Interval | None
    unit: str = ""
    fairness: list[Fairness] = field(default_factory=list)
    slices: Slices | None = None
    robustness: list[Robustness] = field(default_factory=list)
    undisturbed: Interval | None = None  # the metric of the rows that robustness disturbed, as they are
    adversary: Adversary | None = None
    privacy: Privacy | None = None


@dataclass
class Audit:
    name: str
    what: list[str]
    asked: list[AskedAudit] = field(default_factory=list)
    security: Security | None = None
    made: str = ""
    seed: int = 0
    language: str = "en"  # of the page
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return finite({"format": FORMAT, **asdict(self)})


@dataclass(frozen=True)
class Audited(Event):
    """A model has been audited."""

    audit: Audit

    def as_json(self) -> dict[str, Any]:
        return {"event": "Audited", "audit": self.audit.as_json()}
