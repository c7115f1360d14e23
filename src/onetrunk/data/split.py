"""Training, validation and test rows, kept apart: equal rows, groups, later times never stand on both sides.

`KIND[:COLUMN][:80/10/10]`, where KIND is random, stratified, group, scaffold, time, given or auto.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.encoder import Encoder, Ordered
from onetrunk.core.errors import BadValueError, DataError, UsageError, unknown
from onetrunk.core.registry import column_types
from onetrunk.core.values import of_present, present, sample_present, take
from onetrunk.data import spool
from onetrunk.data.duplicates import (
    NONE,
    are_first,
    fingerprint_keys,
    fingerprints,
    first_of_each,
    keys_by,
    numbered,
    row_keys,
    value_keys,
)
from onetrunk.data.readers.folders import SPLIT_OF
from onetrunk.data.table import Table, is_given_split

SPLITS = ("train", "val", "test")
_KINDS = ("auto", "given", "group", "random", "scaffold", "stratified", "time")
_FEW_CLASSES = 100
_QUANTILES = 10
_FEW_EQUAL = 0.05  # of a split's rows: so many equal ones are left out of it, and more stop the run
_BLOCK = 65_536  # rows that are looked at together


@dataclass
class Split:
    """Row positions in the table, int64, sorted; and in plain words how they were chosen."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    how: str
    equal_across: int = 0  # rows outside training whose inputs equal a row in another split: 0 unless allowed
    repeated: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # left out, for they equal such
    notes: list[str] = field(default_factory=list)

    def indices(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in SPLITS}

    def as_json(self) -> dict[str, Any]:
        counts = {name: len(index) for name, index in self.indices().items()}
        across = {"equal_across": self.equal_across, "repeated": len(self.repeated)}
        return {"how": self.how, "rows": counts, **across, "notes": self.notes}


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
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Split:
    """Chooses the rows of each split, as a function of the seed.

    Rows with equal `given` values are equal: random and stratified splits keep them together. Where others have them
    in two splits, a few are left out of the later one (`Split.repeated`), and many raise DataError, unless they are
    allowed. DataError too: a split without rows, an asked
    column with one class, a row without group, time or split. UsageError: a spec or column that is not there.

    `before` int8 [rows] is the split each row had in an earlier stage, -1 where in none (`data.seen_rows`). Dealt rows
    keep it; a split by time, or by a column that nobody named, leaves out rows that it would hold out and that were
    learnt from before. `options` of columns say how they are written.
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
    together = spool.kept(np.arange(n)) if allow_equal_rows else equal
    key = rng.key(seed, "split", kind)
    one = np.zeros(n, dtype=np.uint8)
    before = np.full(n, -1, dtype=np.int8) if before is None else before
    notes: list[str] = []
    if column is None or kind in ("random", "stratified"):
        splits = _deal(together, _strata(table[column], column) if column else one, fractions, key, before)
        how = f"at random, each {column} in proportion" if column else "at random"
        if repeated := n - int(are_first(together).sum()):
            both = f"{repeated:,} rows have" if repeated > 1 else "1 row has"
            notes.append(f"{both} the same inputs as another one, and will be in the same split.")
    elif kind == "group":
        splits = _deal(_groups(_required(table, column, kind)), one, fractions, key, before)
        how = f"by {column}, each whole in one split"
    elif kind == "scaffold":
        splits = _deal(_split_groups(table[column], column, types[column]), one, fractions, key, before)
        how = f"by the scaffolds of {column}, each whole in one split"
    elif kind == "time":
        reading = {"type": types[column], **(options or {}).get(column, {})} if column in types else None
        splits = _by_time(_required(table, column, kind), column, fractions, reading)
        how = f"by {column}, the earliest for training, the latest for the test"
    else:
        splits = _as_told(_required(table, column, kind), column, together, key, before, notes)
        how = f"as the column {column} says"
        fractions = (1.0, 1.0, 0.0)  # a test split is not a must
    if kind != "given":
        how += f", {'/'.join(f'{100 * f:g}' for f in fractions)}"
    named = kind == "given" and (spec.startswith("given") or allow_equal_rows)
    how = _respect(splits, before, how, named, notes)
    train, val, test = (spool.kept(np.flatnonzero(splits == i)) for i in range(3))
    result = Split(train, val, test, how, notes=notes)
    _check_shares(result, fractions, n, int((before >= 0).sum()))
    _check_equal(result, equal, table, allow_equal_rows)
    _check_classes(result, table, types, ask)
    return result


def equal_rows(table: Table, types: Mapping[str, str], names: Iterable[str]) -> np.ndarray:
    """A number for every row, int64 [rows]: the position of the first row with equal values in `names`.

    Equal is what the columns' types call equal. Rows without any value are equal to none.
    """
    keys = [fingerprint_keys(table[name], types[name]) for name in names]
    if not keys:
        return spool.kept(np.arange(len(table), dtype=np.int64))
    return first_of_each(row_keys(keys, len(table)))


# -- what the person said ------------------------------------------------------------------------------------
def _parse(spec: str, table: Table) -> tuple[str, str | None, tuple[float, ...]]:
    kind, _, rest = spec.partition(":")
    if kind not in _KINDS:
        raise unknown("split", kind, _KINDS)
    column, sign, last = rest.rpartition(":")
    percent: tuple[float, ...] = (80.0, 10.0, 10.0)
    if re.fullmatch(r"[\d.]+(/[\d.]+)+", last) and last not in table.columns:
        percent = tuple(float(p) for p in last.split("/"))
        if len(percent) != 3 or percent[0] <= 0 or not np.isclose(sum(percent), 100):
            raise UsageError(f"--split {spec}: expected train/val/test shares that add up to 100, found {last!r}.")
    else:
        column = f"{column}{sign}{last}"
    if column:
        table[column]
    return kind, column or None, tuple(p / 100 for p in percent)


def column_that_says(spec: str | None, table: Table) -> str | None:
    """The column of `given:COLUMN`, which says which split each row belongs to; None for other splits."""
    kind, column, _ = _parse(spec, table) if spec else ("", None, ())
    return column if kind == "given" else None


def _automatic(table: Table, ask: Sequence[str]) -> tuple[str, str | None]:
    if "split" in table.columns and is_given_split("split", table["split"]):
        return "given", "split"
    for name in ask:
        distinct = _few_different(table[name])
        if distinct is not None and len(table) >= 3 * len(distinct):
            return "stratified", name
    return "random", None


def _required(table: Table, column: str, kind: str) -> Sequence[Any]:
    values = table[column]
    missing = table.row[~present(values)]
    if len(missing):
        raise DataError(
            f"A split by {kind} needs {column!r} in every row; it is missing in {len(missing):,}: "
            f"rows {_some(missing)}. Fill it in, or remove these rows."
        )
    return values


# -- ways to split -------------------------------------------------------------------------------------------
def _deal(
    group: np.ndarray, stratum: np.ndarray, fractions: Sequence[float], key: int, before: np.ndarray
) -> np.ndarray:
    """Splits int8 [rows]: whole groups in keyed order, the largest first, each to the split furthest from its share.
    `group` int64 [rows] is the position of the first row of each row's group; `stratum` uint8 [rows].

    Shares are kept in every stratum, and overall where a stratum leaves the choice open. Groups with rows that had a
    split come first and take it, the earliest of them.
    """
    n = len(group)
    size = np.bincount(group, minlength=n).astype(np.int32)  # of the group that begins at each row
    taken = np.full(n, len(SPLITS), dtype=np.uint8)
    known = np.flatnonzero(before >= 0)
    np.minimum.at(taken, group[known], before[known].astype(np.uint8))
    order = _by_size(spool.kept(np.flatnonzero(size)[rng.permutation(key, int((size > 0).sum()))]), size, taken)
    # Most groups are of one row: what is in their place is looked up, and only other groups' rows are put together.
    strata, shared = stratum.tobytes(), np.flatnonzero(size[group] > 1)
    shared = shared[np.argsort(group[shared], kind="stable")]
    groups, strata_of_shared = group[shared], stratum[shared].tobytes()
    rows = np.bincount(stratum)  # of each stratum
    lack = (rows[:, None] * np.array(fractions)).tolist()  # [strata][splits] rows still wanted
    overall = (n * np.array(fractions)).tolist()

    def wanted(p: int) -> tuple[float, float]:
        return round(sum(lack[s][p] for s in mine) / len(mine), 9), overall[p]

    dealt = bytearray(taken.tobytes())
    for first in range(0, len(order), _BLOCK):
        block = order[first : first + _BLOCK]
        starts = np.searchsorted(groups, block)
        for g, start, many in zip(block.tolist(), starts.tolist(), size[block].tolist(), strict=True):
            mine = strata[g : g + 1] if many == 1 else strata_of_shared[start : start + many]
            if dealt[g] == len(SPLITS):
                dealt[g] = max(range(len(SPLITS)), key=wanted)
            for s in mine:
                lack[s][dealt[g]] -= 1
            overall[dealt[g]] -= many
    return np.frombuffer(dealt, dtype=np.int8)[group]


def _by_size(groups: np.ndarray, size: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """These groups, those that had a split before the others, and of either the largest first."""
    out, filled = spool.zeros((len(groups),), np.int64), 0
    alone, new = size[groups] == 1, taken[groups] == len(SPLITS)
    for is_new in (False, True):
        several = groups[(new == is_new) & ~alone]
        several = several[np.argsort(-size[several], kind="stable")]
        for some in (several, groups[(new == is_new) & alone]):
            out[filled : filled + len(some)] = some
            filled += len(some)
    return out


def _strata(values: Sequence[Any], column: str) -> np.ndarray:
    """A class for every row, uint8 [n]; numbers of many values go by tenths of their order; missing is a class too."""
    distinct = _few_different(values)
    if distinct is not None and len(values) >= 3 * len(distinct):
        return np.fromiter((distinct[_hashable(v)] for v in values), dtype=np.uint8, count=len(values))
    if not all(isinstance(v, int | float | None) for v in values):
        count = len(distinct) if distinct is not None else int(numbered(keys_by(values, repr)).max()) + 1
        raise DataError(
            f"Cannot stratify by {column!r}: it has {count:,} different values in {len(values):,} "
            "rows; expected a few classes or numbers. Use --split random."
        )
    numbers = np.fromiter((np.nan if v is None else v for v in values), dtype=np.float64, count=len(values))
    edges = np.nanquantile(numbers, np.arange(1, _QUANTILES) / _QUANTILES)
    return np.where(np.isnan(numbers), _QUANTILES, np.searchsorted(edges, numbers)).astype(np.uint8)


def _few_different(values: Sequence[Any]) -> dict[Any, int] | None:
    """Different values, numbered as they come; None where they are too many for classes."""
    numbers: dict[Any, int] = {}
    for value in values:
        numbers.setdefault(_hashable(value), len(numbers))
        if len(numbers) > _FEW_CLASSES:
            return None
    return numbers


def _groups(values: Sequence[Any]) -> np.ndarray:
    """The position of the first row with an equal value, int64 [n]."""
    keys = value_keys(values)
    return first_of_each(keys_by(values, lambda value: repr(_hashable(value))) if keys is None else keys)


def _split_groups(values: Sequence[Any], column: str, kind: str) -> np.ndarray:
    """The position of the first row of each row's scaffold, int64 [n]; its own where there is none."""
    keys = keys_by(values, column_types.get(kind).encoder.split_group)
    if (keys == NONE).all():
        raise DataError(
            f"Cannot split by scaffold: {column!r}, read as {kind}, has none. Those of molecules need RDKit: "
            "pip install 'onetrunk[chem]'"
        )
    return first_of_each(keys)


def _by_time(
    values: Sequence[Any], column: str, fractions: Sequence[float], reading: Mapping[str, Any] | None
) -> np.ndarray:
    """Earliest rows train, latest test; rows of one moment stay together."""
    moment, known, reason = moments(values, column, reading)
    if not known.all():
        raise DataError(f"Cannot order the rows by {column!r}: {reason or 'some numbers are not finite'}.")
    order = np.sort(moment)
    changes = np.flatnonzero(order[1:] != order[:-1]) + 1  # where a split may begin
    splits = np.zeros(len(values), dtype=np.int8)
    for i in (1, 2):
        start = round(sum(fractions[:i]) * len(values))
        if start < len(values) and len(changes):
            splits[moment >= order[changes[np.abs(changes - start).argmin()]]] = i
    return splits


def moments(
    values: Sequence[Any], column: str, reading: Mapping[str, Any] | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Positions to order rows by (numbers as they are, dates in seconds), float64 [n]; which of them are usable, bool
    [n]; and why the first other one is not, in words. `told` are the column's type and options.

    Raises DataError where most are not usable, and where nothing tells how they are written.
    """
    if all(isinstance(value, int | float | None) for value in values):
        numbers = np.fromiter((np.nan if v is None else v for v in values), dtype=np.float64, count=len(values))
        return numbers, np.isfinite(numbers), ""
    encoder = ordering(values, column, reading)
    assert isinstance(encoder, Ordered)
    out, reason = np.full(len(values), np.nan), ""
    known_ones: dict[Any, float] = {}
    for i, value in enumerate(values):
        if isinstance(value, Hashable) and value is not None:
            if value not in known_ones:
                try:
                    known_ones[value] = encoder.to_line(value)
                except BadValueError as error:
                    known_ones[value], reason = np.nan, reason or str(error)
            out[i] = known_ones[value]
            if len(known_ones) > _BLOCK:
                known_ones.clear()
    known = ~np.isnan(out)
    if known.sum() <= present(values).sum() / 2:
        raise DataError(f"Cannot order the rows by {column!r}: {reason}.")
    return out, known, reason


def ordering(values: Sequence[Any], column: str, reading: Mapping[str, Any] | None = None) -> Encoder:
    """What reads a column by which rows are ordered (it is `core.encoder.Ordered`): of the type and with the options
    that are told, else of the type that recognises it, as its values are written. DataError where none does."""
    own = dict(reading or {})
    kind = own.pop("type", None)
    if kind is None or not issubclass(column_types.get(kind).encoder, Ordered):
        sample = sample_present(values)
        line = [name for name in column_types.names() if issubclass(column_types.get(name).encoder, Ordered)]
        scores = {name: column_types.get(name).encoder.recognise(sample) for name in line}
        kind, own = max(line, key=lambda name: scores[name]), {}
        if not scores[kind]:
            raise DataError(
                f"Cannot order the rows by {column!r}: expected numbers or dates, found {str(sample[0])[:40]!r}."
            )
    encoder = column_types.get(kind).encoder
    convention = encoder.convention(of_present(values), {})
    return encoder({**(convention.options if convention else {}), **own})


def _as_told(
    values: Sequence[Any], column: str, together: np.ndarray, key: int, before: np.ndarray, notes: list[str]
) -> np.ndarray:
    words = [str(v).strip().lower() for v in values]
    strange = sorted({w for w in words if w not in SPLIT_OF})
    if strange:
        known = ", ".join(SPLIT_OF)
        raise DataError(f"The column {column!r} must name a split in every row ({known}); found {strange[0]!r}.")
    splits = np.array([SPLITS.index(SPLIT_OF[w]) for w in words], dtype=np.int8)
    if not (splits == 0).any():
        raise DataError(f"The column {column!r} gives no row to training; found {dict(Counter(words))}.")
    if not (splits == 1).any():
        train = np.flatnonzero(splits == 0)
        had = np.where(before[train] < 2, before[train], -1)
        group = first_of_each(together[train] + 1)
        splits[train] = _deal(group, np.zeros(len(train), dtype=np.uint8), (0.9, 0.1, 0.0), key, had)
        notes.append(f"The column {column} names no validation rows: a tenth of the training rows was set aside.")
    if not (splits == 2).any():
        notes.append(f"The column {column} names no test rows: evidence comes from validation rows.")
    return splits


# -- what must hold ------------------------------------------------------------------------------------------
def _respect(splits: np.ndarray, before: np.ndarray, how: str, named: bool, notes: list[str]) -> str:
    """Takes rows out of `splits` that an earlier stage learnt from and this one would hold out; unless it was told
    which rows to hold out. Notes what was done; returns how the rows were split."""
    kept = int((splits == before).sum())
    if kept == len(splits):
        return "as for the model it starts from"
    if kept:
        notes.append(f"{kept:,} rows keep the split they had for the model it starts from.")
    leaking = (before >= 0) & (splits > before)
    if leaking.any() and named:
        notes.append(f"{leaking.sum():,} held-out rows, as told, were learnt from before: the evidence is too good.")
    elif leaking.any():
        splits[leaking] = -1
        notes.append(f"{leaking.sum():,} rows were learnt from before, so they are not held out: left out here.")
    return how


def _check_shares(made: Split, fractions: Sequence[float], n: int, known: int) -> None:
    shares = zip(made.indices().values(), fractions, strict=True)
    if any(fraction and not len(index) for index, fraction in shares):
        counts = ", ".join(f"{name} {len(index):,}" for name, index in made.indices().items())
        started = f" The model it starts from has met {known:,} of them, which stay where they were." if known else ""
        raise DataError(
            f"{n:,} rows are too few, or too often equal or of one group, to split {made.how}: {counts}.{started} "
            "Add rows, or choose other shares (--split random:60/20/20)."
        )


def _check_equal(made: Split, equal: np.ndarray, table: Table, allowed: bool) -> None:
    """Counts rows whose inputs stand in an earlier split too. Unless they are allowed, a few are left out of the later
    split, and many are an error: such a split does not keep apart what it should."""
    split_of = np.full(len(equal), len(SPLITS), dtype=np.uint8)
    for number, index in enumerate(made.indices().values()):
        split_of[index] = number
    earliest = np.full(len(equal), len(SPLITS), dtype=np.uint8)  # of the rows that equal the first of them
    np.minimum.at(earliest, equal, split_of)
    clashing = np.flatnonzero((split_of < len(SPLITS)) & (earliest[equal] < split_of))
    clashing = clashing[np.argsort(split_of[clashing], kind="stable")]
    asked = np.zeros(len(equal), dtype=bool)
    asked[equal[clashing]] = True
    earlier = np.flatnonzero(asked[equal] & (split_of == earliest[equal]))
    of, first = np.unique(equal[earlier], return_index=True)
    twin = earlier[first][np.searchsorted(of, equal[clashing])]
    clashes = [
        (SPLITS[split_of[k]], k, SPLITS[split_of[other]], other)
        for k, other in zip(clashing.tolist(), twin.tolist(), strict=True)
    ]
    per_split = Counter(name for name, _, _, _ in clashes)
    if not allowed and all(count <= _FEW_EQUAL * len(getattr(made, name)) for name, count in per_split.items()):
        made.repeated = np.sort(clashing)
        made.val, made.test = (np.setdiff1d(index, made.repeated) for index in (made.val, made.test))
        return
    made.equal_across = len(clashes)
    if clashes and not allowed:
        pairs = Counter(f"{name} and {other}" for name, _, other, _ in clashes)
        counts = ", ".join(f"{count:,} in {names}" for names, count in pairs.items())
        examples = "; ".join(f"row {table.row[i]} = row {table.row[j]}" for _, i, _, j in clashes[:5])
        raise DataError(
            f"Rows with equal inputs stand in more than one split ({counts}), so the evidence would be too "
            f"good: {examples}. Remove them, or allow them: --allow-equal-rows"
        )
    if clashes:
        made.notes.append(f"{len(clashes):,} rows have the same inputs as a row of another split (allowed).")


def _check_classes(made: Split, table: Table, types: Mapping[str, str], ask: Sequence[str]) -> None:
    for name in ask:
        counts: Counter[str] = Counter()
        for print_ in fingerprints(take(table[name], made.train), types[name]):
            if print_ is not None:
                counts[print_] += 1
            if len(counts) > 1:
                break
        if len(counts) < 2:
            listed = ", ".join(f"{value!r}: {count:,}" for value, count in counts.items()) or "no value at all"
            raise DataError(
                f"The asked column {name!r} must take at least 2 values in the training rows; found {listed}."
            )


def _hashable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    return repr(value) if isinstance(value, list | dict | set) else value


def _some(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
