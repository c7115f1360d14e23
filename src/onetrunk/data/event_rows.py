"""Turns a table of events (one line for each tick, click or answer) into rows with histories.

A row holds a window of the events of one person, item or symbol, in order. Its last `ahead` events are what is asked:
only asked columns and those known beforehand hold them, all others end at the last event seen. Each event belongs to a
split (train, val, test); a row belongs to the split of all events that it asks for, and sees none of a later one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from onetrunk.core.config import Config
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.ledger import Ledger
from onetrunk.data.readers.folders import SPLIT_OF
from onetrunk.data.split import SPLITS, moments
from onetrunk.data.split import split as divide
from onetrunk.data.table import Table, is_given_split

_SPLIT = "split"  # the column that names each row's split
_MOST_FILLED = 20  # steps an event, on average: more is a wrong `step` or a wrong moment
_LATEST = 0.1  # share of the training events set aside for validation where nobody said which

Names = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class EventsConfig(Config):
    """How events become rows."""

    by: Names = Field(default_factory=list)  # columns that say whose events they are; none: all are one history
    order: str | None = None  # the column of moments (dates or numbers); None: as the table stands
    window: int = Field(ge=1)  # events of a row at most, asked ones included
    ahead: int = Field(1, ge=0)  # of these, how many at the end are asked; 0: none, a label is
    stride: int | None = Field(None, ge=1)  # events from one row to the next; None: `ahead`, so that each is asked once
    min_seen: int = Field(1, ge=0)  # events that a row must have seen
    step: str | float | None = None  # moments are this far apart ("1h", "1D", 5): missing ones are filled in
    known: Names = Field(default_factory=list)  # columns known beforehand (holidays, prices set): they go to the end
    now: Names = Field(default_factory=list)  # columns of which a row keeps the value at the last event seen
    columns: dict[str, dict[str, Any]] = Field(default_factory=dict)  # how numbers and moments are written: their types
    # and options, as under a recipe's `columns`; found in the events of training
    join: dict[str, list[str]] = Field(default_factory=dict)  # new column: columns that become its fields

    def check(self) -> None:
        if self.window <= self.ahead:
            raise UsageError(
                f"events.window is {self.window} events, of which events.ahead asks {self.ahead}: none is left to see."
            )


@dataclass
class _Histories:
    """Events in the order of their histories. `at` [k] is the row in the table, -1 for a moment that was filled in."""

    at: np.ndarray
    starts: np.ndarray  # [histories + 1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)


@dataclass
class _Span:
    """One row, in positions of `_Histories.at`: events first .. seen are seen, seen .. end asked."""

    first: int
    seen: int
    end: int
    split: str | None = None


def rows_from_events(
    events: Table,
    config: EventsConfig,
    ask: Sequence[str] = (),
    *,
    split: str | None = "auto",
    seed: int = 0,
    ledger: Ledger | None = None,
    max_bad: float = 0.01,
) -> Table:
    """Rows to train on and to be judged by, with a column `split`.

    `split` is as in `data.split`, of events: by a column `split` or by time (auto), `group:COLUMN` or `given:COLUMN`;
    None: all are of one split, and there is no such column. Raises UsageError for columns and splits that are not
    there, DataError where too many events are unusable or no row can be made.
    """
    ledger = ledger if ledger is not None else Ledger()
    if config.ahead and not ask:
        raise UsageError(
            "Rows of events need to know which columns hold what comes next: --ask COLUMN (or events.ahead=0)."
        )
    events, moment = _usable(events, config, ask, ledger, max_bad)
    splits = np.zeros(len(events), dtype=np.int64)
    if split is not None:
        splits = _split_events(events, moment, config, split, seed)
    histories = _histories(events, moment, config, ledger)
    splits = _in_history_order(splits, histories.at)
    spans: list[_Span] = []
    tail = max(1, config.ahead)
    crossing = short = 0
    asked = np.zeros(len(splits), dtype=bool)
    for start, stop in histories:
        latest = np.maximum.accumulate(splits[start:stop])
        before = len(spans)
        for first, last in _stretches(splits[start:stop]):
            least = start + max(config.min_seen, config.ahead > 0) + config.ahead
            ends = range(start + last, max(start + first + tail, least) - 1, -(config.stride or tail))
            for end in reversed(ends):  # the latest is always there, and rows stand in order of time
                if latest[end - 1 - start] > splits[end - 1]:
                    crossing += 1
                    continue
                spans.append(
                    _Span(
                        max(start, end - config.window),
                        end - config.ahead,
                        end,
                        SPLITS[splits[end - 1]] if split else None,
                    )
                )
                asked[end - tail : end] = True
        short += len(spans) == before
    column = config.order or "the table"
    _count(ledger, column, short, "histories too short for a row")
    _count(ledger, column, crossing, "rows left out: events held out for a later split stand before them")
    for i, name in enumerate(SPLITS[1:], start=1):
        _count(ledger, column, int((~asked & (splits == i)).sum()), f"{name} events that no row asks for")
    if not spans:
        raise DataError(
            f"No row can be made of the {len(events):,} events of {events.source}: expected histories of at least "
            f"{max(config.min_seen, 1) + config.ahead} events within one split; make events.ahead or events.min_seen "
            "smaller."
        )
    return _rows(events, histories, spans, config, ask)


def latest_rows(
    events: Table, config: EventsConfig, ask: Sequence[str] = (), *, ledger: Ledger | None = None, max_bad: float = 0.01
) -> Table:
    """One row for every history, as it stands at its end: what to answer from.

    Events at the end that lack every asked value are those to be answered, up to `ahead` of them, where columns are
    known beforehand.
    """
    ledger = ledger if ledger is not None else Ledger()
    events, moment = _usable(events, config, ask, ledger, max_bad)
    histories = _histories(events, moment, config, ledger)
    names = [field for name in ask for field in config.join.get(name, [name])]
    empty = np.array([all(events[name][i] is None for name in names) for i in range(len(events))], dtype=bool)
    spans = []
    for start, stop in histories:
        seen = stop
        while config.known and seen > max(start + 1, stop - config.ahead) and empty[histories.at[seen - 1]]:
            seen -= 1
        spans.append(_Span(max(start, seen - (config.window - config.ahead)), seen, stop))
    return _rows(events, histories, spans, config, ask)


def holds_events(table: Table, config: EventsConfig) -> bool:
    """Is it a table of events, not of rows with histories? Then its fields and moments stand alone in their columns."""
    names = [field for fields in config.join.values() for field in fields] or [
        name for name in table.names if name not in (*config.by, *config.now, config.order, _SPLIT)
    ]
    values = [next((v for v in table.columns[name] if v is not None), None) for name in names if name in table.columns]
    return bool(values) and not any(isinstance(v, list | dict | np.ndarray) for v in values)


# -- events --------------------------------------------------------------------------------------------------
def _usable(
    events: Table, config: EventsConfig, ask: Sequence[str], ledger: Ledger, max_bad: float
) -> tuple[Table, np.ndarray]:
    """Events that say whose and when they are, and their moments."""
    config.check()
    fields = [field for names in config.join.values() for field in names]
    for name in (*config.by, *config.known, *config.now, *fields, *filter(None, [config.order])):
        events[name]
    for name in ask:
        if name not in config.join:
            events[name]
    good, unusable, reason = np.ones(len(events), dtype=bool), Ledger(), ""
    needed = {name: np.array([v is not None for v in events[name]], dtype=bool) for name in config.by}
    moment = np.arange(len(events), dtype=np.float64)
    if config.order is not None:
        moment, known, reason = moments(events[config.order], config.order, config.columns.get(config.order))
        needed = {config.order: known, **needed}
    for name, fine in needed.items():
        bad = np.flatnonzero(good & ~fine)
        good[bad] = False
        without = f"events without it{f' ({reason})' if name == config.order and reason else ''}"
        for i in events.row[bad]:
            ledger.add(f"{without}, left out", name, int(i))
            unusable.add(without, name, int(i), bad=True)
    unusable.check(len(events), max_bad)
    unreadable = Ledger()
    events = _as_written(events, config, unreadable)
    unreadable.check(len(events), max_bad)
    ledger.merge(unreadable)
    return (events, moment) if good.all() else (events.take(good), moment[good])


def _as_written(events: Table, config: EventsConfig, ledger: Ledger) -> Table:
    """With numbers for what is written as text, as the events of training were."""
    columns = dict(events.columns)
    for name, own in config.columns.items():
        values = columns.get(name, [])
        if name == config.order or not any(isinstance(value, str) for value in values):
            continue
        kind = column_types.get(own["type"])
        numbers = kind.encoder({key: value for key, value in own.items() if key != "type"}).plain(list(values))
        for i in [i for i, value in enumerate(numbers) if isinstance(value, str)]:
            ledger.add(f"{numbers[i]!r} cannot be read as {own['type']}", name, int(events.row[i]), bad=True)
            numbers[i] = None
        columns[name] = numbers
    return Table(columns, events.source, events.row, events.notes)


def _split_events(events: Table, moment: np.ndarray, config: EventsConfig, spec: str, seed: int) -> np.ndarray:
    """The split of every event, int64 [events]."""
    kind, _, rest = spec.partition(":")
    if kind == "auto":
        if _SPLIT in events.columns and is_given_split(_SPLIT, events[_SPLIT]):
            kind, spec = "given", f"given:{_SPLIT}"
        elif config.order is not None:
            kind, spec = "time", f"time:{config.order}" + (f":{rest}" if rest else "")
        else:
            raise UsageError(
                "Events without moments need a split: --split group:COLUMN or given:COLUMN, or events.order."
            )
    if kind in ("random", "stratified"):
        raise UsageError(
            f"Events of one history cannot be split {kind}: a row would see what is held out. Use --split "
            "time:COLUMN, group:COLUMN or given:COLUMN."
        )
    columns = dict(events.columns)
    if config.order is not None:
        columns[config.order] = moment.tolist()
    made = divide(Table(columns, events.source, events.row), {}, spec, seed, given=[])
    events.notes.append(f"Events are split {made.how}; a row is in the split of those that it asks for.")
    splits = np.zeros(len(events), dtype=np.int64)
    splits[made.val], splits[made.test] = 1, 2
    if kind == "given":
        named = {SPLIT_OF[str(v).strip().lower()] for v in events[spec.partition(":")[2]]}
        if "val" not in named:  # the latest events, not some at random: those after them would be lost to training
            early = splits < 2
            splits[early] = moment[early] > np.quantile(moment[early], 1 - _LATEST)
    return splits


def _histories(events: Table, moment: np.ndarray, config: EventsConfig, ledger: Ledger) -> _Histories:
    """Sorted by owner and moment; with a `step`, one event a step."""
    numbers: dict[tuple[Any, ...], int] = {}
    keys = zip(*(events[name] for name in config.by), strict=True) if config.by else [()] * len(events)
    owner = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    by_owner = np.argsort(owner, kind="stable")
    falls = (np.diff(moment[by_owner]) < 0) & (np.diff(owner[by_owner]) == 0)
    column = config.order or "the table"
    _count(ledger, column, int(falls.sum()), "events earlier than the one before them: sorted")
    at = np.lexsort((moment, owner))
    same = (np.diff(moment[at]) == 0) & (np.diff(owner[at]) == 0)
    counts = np.bincount(owner, minlength=len(numbers))
    if config.step is None:
        _count(ledger, column, int(same.sum()), "events at the moment of another: in the table's order")
        return _Histories(at, np.append(0, np.cumsum(counts)))
    step, out, starts = _seconds(config.step), [], [0]
    repeated = filled = between = 0
    for mine in np.split(at, np.cumsum(counts)[:-1]):
        exact = (moment[mine] - moment[mine[0]]) / step
        step_of = np.floor(exact + 1e-6).astype(np.int64)
        between += int((exact - step_of > 1e-6).sum())
        if step_of[-1] > _MOST_FILLED * (len(mine) + 100):
            raise DataError(
                f"With events.step {config.step} the {len(mine):,} events up to row {events.row[mine[-1]]} lie on "
                f"{step_of[-1] + 1:,} steps. Choose a longer step, or look for a wrong {column!r} there."
            )
        grid = np.full(step_of[-1] + 1, -1, dtype=np.int64)
        grid[step_of] = mine  # the last one of a step stays
        held = int((grid >= 0).sum())
        repeated, filled = repeated + len(mine) - held, filled + len(grid) - held
        out.append(grid)
        starts.append(starts[-1] + len(grid))
    _count(ledger, column, between, "moments between steps: taken for the step before")
    _count(ledger, column, repeated, "events of one step: the last one is kept")
    _count(ledger, column, filled, "steps without an event: filled with missing values")
    return _Histories(np.concatenate(out), np.array(starts))


def _seconds(step: str | float) -> float:
    import pandas

    try:
        seconds = float(step) if isinstance(step, int | float) else pandas.Timedelta(step).total_seconds()
    except ValueError:
        seconds = np.nan
    if not seconds > 0:
        raise UsageError(f"events.step expects a time like 1h, 15min or 1D, or a number above 0; found {step!r}.")
    return seconds


def _in_history_order(splits: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Splits in the order of histories; a moment that was filled in belongs to the split of the event before it."""
    return splits[at[_last_real(at)]]


def _last_real(at: np.ndarray) -> np.ndarray:
    """The position of the last true event up to each position; a history begins with one."""
    return np.maximum.accumulate(np.where(at >= 0, np.arange(len(at)), 0))


def _stretches(splits: np.ndarray) -> list[tuple[int, int]]:
    """Runs of one split: (first, end), the earliest first."""
    borders = np.flatnonzero(np.diff(splits)) + 1
    return list(zip([0, *borders.tolist()], [*borders.tolist(), len(splits)], strict=True))


def _count(ledger: Ledger, column: str, n: int, reason: str) -> None:
    if n:
        ledger.add(reason, column, n=n)


# -- rows ----------------------------------------------------------------------------------------------------
def _rows(
    events: Table, histories: _Histories, spans: Sequence[_Span], config: EventsConfig, ask: Sequence[str]
) -> Table:
    last = histories.at[_last_real(histories.at)[[span.seen - 1 for span in spans]]]
    joined = {field: name for name, fields in config.join.items() for field in fields}
    single = [*config.by, *config.now, *([config.order] if config.order else [])]
    columns: dict[str, Sequence[Any]] = {name: [events[name][i] for i in last] for name in single if name not in joined}
    fields: dict[str, dict[str, list[Any]]] = {name: {} for name in config.join}
    for name, values in events.columns.items():
        if name in columns or name == _SPLIT:
            continue
        whole = joined.get(name, name)
        ahead = whole in ask or whole in config.known or name in config.known
        sequence = _sequence(values, histories.at)
        cut = [sequence[span.first : span.end if ahead else span.seen] for span in spans]
        if name in joined:
            fields[whole][name] = cut
        else:
            columns[name] = cut
    for name, values_of in fields.items():
        columns[name] = [dict(zip(values_of, each, strict=True)) for each in zip(*values_of.values(), strict=True)]
    if spans and spans[0].split is not None:
        columns[_SPLIT] = [span.split for span in spans]
    return Table(columns, events.source, events.row[last], events.notes)


def _sequence(values: Sequence[Any], at: np.ndarray) -> Any:
    """Values in the order of histories: an array where they are numbers, so that rows are views of it."""
    sequence = [values[i] if i >= 0 else None for i in at.tolist()]
    kinds = {type(v) for v in sequence}
    if kinds == {int}:
        return np.array(sequence, dtype=np.int64)
    if float in kinds and kinds <= {int, float, type(None)}:
        return np.array([np.nan if v is None else v for v in sequence], dtype=np.float64)
    return sequence
