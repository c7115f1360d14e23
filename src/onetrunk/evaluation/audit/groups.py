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
    """`of` int64 [n]: which of `names` each row is in, -1 where the column has no value. Quarters stand in order; of
    others the largest is the first."""

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
    there = {str(value) for value in values if value is not None}
    if not there:
        raise UsageError(f"No row has a value of {column!r}, so rows cannot be grouped by it.")
    if issubclass(encoder, Ordered) and len(there) > _MAX_VALUES:
        return by_quarter(column, values)
    names = [None if value is None else encoder.fingerprint(value) for value in values]
    counts = Counter(name for name in names if name is not None)
    if len(counts) > MAX_GROUPS:
        raise UsageError(
            f"{column!r} has {len(counts):,} different values: expected at most {MAX_GROUPS} groups, or numbers or "
            "dates, which are cut into quarters. Give a column with fewer values."
        )
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    number = {name: i for i, name in enumerate(ordered)}
    of = np.array([-1 if name is None else number[name] for name in names], dtype=np.int64)
    return Groups(column, ordered, of, "one for each value")


def by_quarter(column: str, values: Sequence[Any]) -> Groups:
    """Numbers or dates (None is missing) in up to four groups of about as many rows each, the lowest first. Raises
    DataError where they are neither."""
    encoder = ordering(values, column)
    assert isinstance(encoder, Ordered)
    rows, line = [], []
    for i, value in enumerate(values):
        if value is not None:
            try:
                line.append(encoder.to_line(value))
            except BadValueError:
                continue
            rows.append(i)
    positions = np.array(line)
    cuts = np.unique(np.quantile(positions, [0.25, 0.5, 0.75], method="lower"))
    quarter = np.searchsorted(cuts, positions, side="left")
    of = np.full(len(values), -1, dtype=np.int64)
    names: list[str] = []
    for q in np.unique(quarter):
        inside = np.flatnonzero(quarter == q)
        low, high = (
            values[rows[end]] for end in (inside[positions[inside].argmin()], inside[positions[inside].argmax()])
        )
        of[[rows[i] for i in inside]] = len(names)
        names.append(str(low) if str(low) == str(high) else f"{low} to {high}")
    return Groups(column, names, of, "quarters of the rows, by value")
