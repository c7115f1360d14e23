"""Training, validation and test rows, kept apart: equal rows, groups, later times never stand on both sides.

`KIND[:COLUMN][:80/10/10]`, where KIND is random, stratified, group, scaffold, time, given or auto.
"""

from __future__ import annotations

import datetime
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.errors import DataError, UsageError, unknown
from onetrunk.core.registry import column_types
from onetrunk.data.sources import SPLIT_OF
from onetrunk.data.table import Table, is_given_split

SPLITS = ("train", "val", "test")
_KINDS = ("auto", "given", "group", "random", "scaffold", "stratified", "time")
_FEW_CLASSES = 100
_QUANTILES = 10


@dataclass
class Split:
    """Row positions in the table, int64, sorted; and in plain words how they were chosen."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    how: str
    equal_across: int = 0  # rows outside training whose inputs equal a row in another part: 0 unless allowed
    notes: list[str] = field(default_factory=list)

    def indices(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in SPLITS}

    def as_json(self) -> dict[str, Any]:
        counts = {name: len(index) for name, index in self.indices().items()}
        return {"how": self.how, "rows": counts, "equal_across": self.equal_across, "notes": self.notes}


def split(
    table: Table,
    types: Mapping[str, str],
    spec: str = "auto",
    seed: int = 0,
    *,
    given: Sequence[str],
    ask: Sequence[str] = (),
    allow_equal_rows: bool = False,
    before: np.ndarray | None = None,
) -> Split:
    """Chooses the rows of each part, as a function of the seed.

    Rows with equal `given` values are equal: random and stratified splits keep them together, the others
    raise DataError when they stand in two parts, unless allowed. DataError too: a part without rows, an asked
    column with one class, a row without group, time or part. UsageError: a spec or column that is not there.

    `before` int64 [rows] is the part each row had in an earlier stage, -1 where in none (`data.seen_rows`). Dealt rows
    keep it; a split by time, or by a column that nobody named, leaves out rows that it would hold out and that were
    learnt from before.
    """
    kind, column, fractions = _parse(spec, table)
    if kind == "auto":
        kind, column = _automatic(table, ask)
    if kind == "stratified":
        column = column or next(iter(ask), None)
    if column is None and kind != "random":
        raise UsageError(f"A {kind} split needs a column: --split {kind}:COLUMN.")
    n = len(table)
    equal = equal_rows(table, types, given)
    together = np.arange(n) if allow_equal_rows else equal
    key = rng.key(seed, "split", kind)
    one = np.zeros(n, dtype=np.int64)
    before = np.full(n, -1, dtype=np.int64) if before is None else before
    notes: list[str] = []
    if kind in ("random", "stratified"):
        part = _deal(together, _strata(table[column], column) if column else one, fractions, key, before)
        how = f"at random, each {column} in proportion" if column else "at random"
        if n > len(np.unique(together)):
            notes.append(f"{n - len(np.unique(together)):,} rows repeat another's inputs: kept in its part.")
    elif kind == "group":
        part = _deal(numbered(_required(table, column, kind)), one, fractions, key, before)
        how = f"by {column}, each whole in one part"
    elif kind == "scaffold":
        part = _deal(_kin(table[column], column, types[column]), one, fractions, key, before)
        how = f"by the scaffolds of {column}, each whole in one part"
    elif kind == "time":
        part = _by_time(_required(table, column, kind), column, fractions)
        how = f"by {column}, the earliest for training, the latest for the test"
    else:
        part = _as_told(_required(table, column, kind), column, together, key, before, notes)
        how = f"as the column {column} says"
        fractions = (1.0, 1.0, 0.0)  # a test part is not a must
    if kind != "given":
        how += f", {'/'.join(f'{100 * f:g}' for f in fractions)}"
    told = kind == "given" and (spec.startswith("given") or allow_equal_rows)
    how = _respect(part, before, how, told, notes)
    result = Split(*(np.flatnonzero(part == i) for i in range(3)), how, notes=notes)
    _check_parts(result, fractions, n, int((before >= 0).sum()))
    _check_equal(result, equal, table, allow_equal_rows)
    _check_classes(result, table, types, ask)
    return result


def equal_rows(table: Table, types: Mapping[str, str], names: Iterable[str]) -> np.ndarray:
    """A number for every row, int64 [rows]: the position of the first row with equal values in `names`.

    Equal is what the columns' types call equal. Rows without any value are equal to none.
    """
    columns = [fingerprints(table[name], types[name]) for name in names]
    if not columns:
        return np.arange(len(table), dtype=np.int64)
    return first_of_each(list(zip(*columns, strict=True)))


def first_of_each(keys: Sequence[tuple[str | None, ...]]) -> np.ndarray:
    """The position of the first equal key, int64 [n]; a key of Nones only is its own."""
    first: dict[tuple[str | None, ...], int] = {}
    return np.array(
        [i if all(k is None for k in key) else first.setdefault(key, i) for i, key in enumerate(keys)],
        dtype=np.int64,
    )


def fingerprints(values: Sequence[Any], kind: str) -> list[str | None]:
    """Equal for equal values, by the type's own rule; None where missing."""
    fingerprint = column_types.get(kind).fingerprint
    known: dict[Any, str] = {}

    def of(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str | int | float):  # also: not hashable
            return fingerprint(value)
        key = (type(value), value)
        if key not in known:
            known[key] = fingerprint(value)
        return known[key]

    return [of(v) for v in values]


# -- what the person said ------------------------------------------------------------------------------------
def _parse(spec: str, table: Table) -> tuple[str, str | None, tuple[float, ...]]:
    kind, _, rest = spec.partition(":")
    if kind not in _KINDS:
        raise unknown("split", kind, _KINDS)
    column, sign, last = rest.rpartition(":")
    percent = (80.0, 10.0, 10.0)
    if re.fullmatch(r"[\d.]+(/[\d.]+)+", last) and last not in table.columns:
        percent = tuple(float(p) for p in last.split("/"))
        if len(percent) != 3 or percent[0] <= 0 or not np.isclose(sum(percent), 100):
            raise UsageError(f"--split {spec}: expected train/val/test shares that add up to 100, found {last!r}.")
    else:
        column = f"{column}{sign}{last}"
    if column:
        table[column]
    return kind, column or None, tuple(p / 100 for p in percent)


def _automatic(table: Table, ask: Sequence[str]) -> tuple[str, str | None]:
    if "split" in table.columns and is_given_split("split", table["split"]):
        return "given", "split"
    for name in ask:
        counts = Counter(_hashable(v) for v in table[name])
        if len(counts) <= _FEW_CLASSES and len(table) >= 3 * len(counts):
            return "stratified", name
    return "random", None


def _required(table: Table, column: str, kind: str) -> list[Any]:
    values = table[column]
    missing = [int(table.row[i]) for i, v in enumerate(values) if v is None]
    if missing:
        raise DataError(
            f"A split by {kind} needs {column!r} in every row; it is missing in {len(missing):,}: "
            f"rows {_some(missing)}. Fill it in, or remove these rows."
        )
    return values


# -- ways to split -------------------------------------------------------------------------------------------
def _deal(
    group: np.ndarray, stratum: np.ndarray, fractions: Sequence[float], key: int, before: np.ndarray
) -> np.ndarray:
    """Parts [rows]: whole groups in keyed order, the largest first, each to the part furthest from its share.

    Shares are kept in every stratum, and overall where a stratum leaves the choice open. Groups with rows that had a
    part come first and take it, the earliest of them.
    """
    inverse = np.unique(group, return_inverse=True)[1]
    counts = np.bincount(inverse)
    had = np.full(len(counts), len(SPLITS))
    np.minimum.at(had, inverse[before >= 0], before[before >= 0])
    shuffled = rng.permutation(key, len(counts))
    order = shuffled[np.lexsort((-counts[shuffled], had[shuffled] == len(SPLITS)))]
    # Lists: most groups are of one row, where arrays would cost ten times as much.
    strata = stratum[np.argsort(inverse, kind="stable")].tolist()  # of group after group
    starts, sizes, taken = (np.cumsum(counts) - counts).tolist(), counts.tolist(), had.tolist()
    lack = (np.bincount(stratum)[:, None] * np.array(fractions)).tolist()  # [strata][parts] rows still wanted
    overall = (len(group) * np.array(fractions)).tolist()

    def wanted(p: int) -> tuple[float, float]:
        return round(sum(lack[s][p] for s in mine) / len(mine), 9), overall[p]

    for g in order.tolist():
        mine = strata[starts[g] : starts[g] + sizes[g]]
        if taken[g] == len(SPLITS):
            taken[g] = max(range(len(SPLITS)), key=wanted)
        for s in mine:
            lack[s][taken[g]] -= 1
        overall[taken[g]] -= sizes[g]
    return np.array(taken, dtype=np.int64)[inverse]


def _strata(values: Sequence[Any], column: str) -> np.ndarray:
    """A class for every row; numbers of many values go by tenths of their order; missing is a class too."""
    names = [_hashable(v) for v in values]
    distinct = set(names)
    if len(values) >= 3 * len(distinct) and len(distinct) <= _FEW_CLASSES:
        return numbered(names)
    if not all(isinstance(v, int | float | None) for v in values):
        raise DataError(
            f"Cannot stratify by {column!r}: it has {len(distinct):,} different values in {len(values):,} "
            "rows; expected a few classes or numbers. Use --split random."
        )
    numbers = np.array([np.nan if v is None else float(v) for v in values])
    edges = np.nanquantile(numbers, np.arange(1, _QUANTILES) / _QUANTILES)
    return np.where(np.isnan(numbers), _QUANTILES, np.searchsorted(edges, numbers))


def _kin(values: Sequence[Any], column: str, kind: str) -> np.ndarray:
    """A number for every row, equal for those of a scaffold; one of its own where there is none."""
    kin = column_types.get(kind).kin
    found = [(None if v is None else kin(v),) for v in values]
    if all(scaffold is None for (scaffold,) in found):
        raise DataError(
            f"Cannot split by scaffold: {column!r}, read as {kind}, has none. Those of molecules need RDKit: "
            "pip install 'onetrunk[chem]'"
        )
    return first_of_each(found)


def _by_time(values: Sequence[Any], column: str, fractions: Sequence[float]) -> np.ndarray:
    """Earliest rows train, latest test; rows of one moment stay together."""
    moment, known = moments(values, column)
    if not known.all():
        strange = values[int(np.flatnonzero(~known)[0])]
        raise DataError(
            f"Cannot order the rows by {column!r}: expected numbers or dates of one form, found {str(strange)[:40]!r}."
        )
    order = np.sort(moment)
    changes = np.flatnonzero(order[1:] != order[:-1]) + 1  # where a part may begin
    part = np.zeros(len(values), dtype=np.int64)
    for i in (1, 2):
        start = round(sum(fractions[:i]) * len(values))
        if start < len(values) and len(changes):
            part[moment >= order[changes[np.abs(changes - start).argmin()]]] = i
    return part


def moments(values: Sequence[Any], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as they are and dates in seconds, float64 [n]; and which of them are usable, bool [n].

    Raises DataError where most are neither.
    """
    import pandas

    present = [v for v in values if v is not None]
    if all(isinstance(v, int | float) for v in present):
        found = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        return found, np.isfinite(found)
    texts = pandas.Series([v.isoformat() if isinstance(v, datetime.date) else v for v in values], dtype=object)
    for form in ("ISO8601", None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of forms that pandas cannot tell, which become missing
            dates = pandas.to_datetime(texts, format=form, utc=True, errors="coerce")
        known = dates.notna().to_numpy()
        if known.sum() > len(present) / 2:
            return np.where(known, dates.astype("datetime64[us, UTC]").astype("int64") / 1e6, np.nan), known
    raise DataError(
        f"Cannot order the rows by {column!r}: expected numbers or dates of one form, found {str(present[0])[:40]!r}."
    )


def _as_told(
    values: Sequence[Any], column: str, together: np.ndarray, key: int, before: np.ndarray, notes: list[str]
) -> np.ndarray:
    words = [str(v).strip().lower() for v in values]
    strange = sorted({w for w in words if w not in SPLIT_OF})
    if strange:
        known = ", ".join(SPLIT_OF)
        raise DataError(f"The column {column!r} must name a part in every row ({known}); found {strange[0]!r}.")
    part = np.array([SPLITS.index(SPLIT_OF[w]) for w in words], dtype=np.int64)
    if not (part == 0).any():
        raise DataError(f"The column {column!r} gives no row to training; found {dict(Counter(words))}.")
    if not (part == 1).any():
        train = np.flatnonzero(part == 0)
        had = np.where(before[train] < 2, before[train], -1)
        part[train] = _deal(together[train], np.zeros(len(train), dtype=np.int64), (0.9, 0.1, 0.0), key, had)
        notes.append(f"The column {column} names no validation rows: a tenth of the training rows was set aside.")
    if not (part == 2).any():
        notes.append(f"The column {column} names no test rows: evidence comes from validation rows.")
    return part


# -- what must hold ------------------------------------------------------------------------------------------
def _respect(part: np.ndarray, before: np.ndarray, how: str, told: bool, notes: list[str]) -> str:
    """Takes rows out of `part` that an earlier stage learnt from and this one would hold out; unless it was told which
    rows to hold out. Notes what was done; returns how the rows were split."""
    kept = int((part == before).sum())
    if kept == len(part):
        return "as for the model it starts from"
    if kept:
        notes.append(f"{kept:,} rows keep the part they had for the model it starts from.")
    leaking = (before >= 0) & (part > before)
    if leaking.any() and told:
        notes.append(f"{leaking.sum():,} held-out rows, as told, were learnt from before: the evidence is too good.")
    elif leaking.any():
        part[leaking] = -1
        notes.append(f"{leaking.sum():,} rows were learnt from before, so they are not held out: left out here.")
    return how


def _check_parts(made: Split, fractions: Sequence[float], n: int, known: int) -> None:
    parts = zip(made.indices().values(), fractions, strict=True)
    if any(fraction and not len(index) for index, fraction in parts):
        counts = ", ".join(f"{name} {len(index):,}" for name, index in made.indices().items())
        started = f" The model it starts from has met {known:,} of them, which stay where they were." if known else ""
        raise DataError(
            f"{n:,} rows are too few, or too often equal or of one group, to split {made.how}: {counts}.{started} "
            "Add rows, or choose other shares (--split random:60/20/20)."
        )


def _check_equal(made: Split, equal: np.ndarray, table: Table, allowed: bool) -> None:
    """Counts rows whose inputs stand in an earlier part too."""
    seen: dict[int, tuple[str, int]] = {}
    clashes = []
    for name, index in made.indices().items():
        mine: dict[int, tuple[str, int]] = {}
        for i in index.tolist():
            twin = seen.get(int(equal[i]))
            if twin is not None:
                clashes.append((name, i, *twin))
            mine.setdefault(int(equal[i]), (name, i))
        seen = {**mine, **seen}
    made.equal_across = len(clashes)
    if clashes and not allowed:
        pairs = Counter(f"{name} and {other}" for name, _, other, _ in clashes)
        counts = ", ".join(f"{count:,} in {names}" for names, count in pairs.items())
        shown = "; ".join(f"row {table.row[i]} = row {table.row[j]}" for _, i, _, j in clashes[:5])
        raise DataError(
            f"Rows with equal inputs stand in more than one part ({counts}), so the evidence would be too "
            f"good: {shown}. Remove them, or allow them: --allow-equal-rows"
        )
    if clashes:
        made.notes.append(f"{len(clashes):,} rows have the same inputs as a row of another part (allowed).")


def _check_classes(made: Split, table: Table, types: Mapping[str, str], ask: Sequence[str]) -> None:
    for name in ask:
        values = table[name]
        counts = Counter(f for f in fingerprints([values[i] for i in made.train], types[name]) if f is not None)
        if len(counts) < 2:
            found = ", ".join(f"{value!r}: {count:,}" for value, count in counts.items()) or "no value at all"
            raise DataError(
                f"The asked column {name!r} must take at least 2 values in the training rows; found {found}."
            )


def _hashable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    return repr(value) if isinstance(value, list | dict | set) else value


def numbered(values: Iterable[Any]) -> np.ndarray:
    """A number for every value, int64 [n]; equal ones have the same, counted from 0 as they come."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(_hashable(v), len(numbers)) for v in values], dtype=np.int64)


def _some(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
