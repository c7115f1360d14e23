"""Rows as groups: by the values of a column, whether the model sees it or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onetrunk.core.encoder import Ordered
from onetrunk.core.errors import BadValueError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.split import ordering

MAX_GROUPS = 40
_MAX_VALUES = 10  # of numbers and dates that are groups each; more are cut into quarters


@dataclass(frozen=True)
class Groups:
    """`of` int64 [n]: which of `names` each row is in, -1 where the column has no value. Quarters stand in order, groups
    of one value by how many rows they have."""

    column: str
    names: list[str]
    of: np.ndarray
    how: str

    def take(self, rows: np.ndarray) -> Groups:
        return Groups(self.column, self.names, self.of[rows], self.how)


def group_rows(column: str, values: Sequence[Any], kind: str) -> Groups:
    """The groups of rows with these values of a column of this type (None is missing). Values on a line that are many
    are cut into quarters of about as many rows each. Raises UsageError where they are too many for groups."""
    encoder = column_types.get(kind).encoder
    there = [i for i, value in enumerate(values) if value is not None]
    if not there:
        raise UsageError(f"No row has a value of {column!r}, so rows cannot be grouped by it.")
    names: list[str | None] = [None] * len(values)
    if issubclass(encoder, Ordered) and len({str(values[i]) for i in there}) > _MAX_VALUES:
        how = "quarters of the rows, by value"
        quarters = _quarters(column, [(i, values[i]) for i in there])
        for i, name in quarters:
            names[i] = name
        ordered = list(dict.fromkeys(name for _, name in quarters))
    else:
        how = "one for each value"
        for i in there:
            names[i] = encoder.fingerprint(values[i])
        counts = Counter(name for name in names if name is not None)
        ordered = sorted(counts, key=lambda name: (-counts[name], name))
    if len(ordered) > MAX_GROUPS:
        raise UsageError(
            f"{column!r} has {len(ordered):,} different values: expected at most {MAX_GROUPS} groups, or numbers or "
            "dates, which are cut into quarters. Give a column with fewer values."
        )
    number = {name: i for i, name in enumerate(ordered)}
    of = np.array([-1 if name is None else number[name] for name in names], dtype=np.int64)
    return Groups(column, ordered, of, how)


def _quarters(column: str, rows: Sequence[tuple[int, Any]]) -> list[tuple[int, str]]:
    """The rows that have a position, each with the name of its quarter, the lowest quarter first."""
    encoder = ordering([value for _, value in rows], column)
    assert isinstance(encoder, Ordered)
    placed = []
    for i, value in rows:
        try:
            placed.append((i, encoder.to_line(value), value))
        except BadValueError:
            continue
    line = np.array([position for _, position, _ in placed])
    cuts = np.unique(np.quantile(line, [0.25, 0.5, 0.75], method="lower"))
    quarter = np.searchsorted(cuts, line, side="left")
    names = {}
    for q in np.unique(quarter):
        inside = np.flatnonzero(quarter == q)
        low, high = (placed[i][2] for i in (inside[line[inside].argmin()], inside[line[inside].argmax()]))
        names[q] = str(low) if str(low) == str(high) else f"{low} to {high}"
    return [(placed[k][0], names[quarter[k]]) for k in np.argsort(quarter, kind="stable")]
