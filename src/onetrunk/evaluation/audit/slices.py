"""Where is a model worst? A slice is the rows with one value of a column, a quarter of its numbers or dates, or texts
of about one length. The worst of so many looks bad by chance: it is compared with the worst slices of shuffled scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.encoder import FreeText
from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.evaluation import intervals
from onetrunk.evaluation.audit.fairness import CHANCE, FEWEST_ROWS
from onetrunk.evaluation.audit.groups import Groups, by_quarter, group_rows
from onetrunk.evaluation.audit.record import Slice, Slices
from onetrunk.evaluation.intervals import wilson

MAX_SHOWN = 10
_SHUFFLES = 500
_CELLS_AT_ONCE = 4_000_000
_LENGTH = "length of "


def worst_slices(
    each: np.ndarray,
    higher_is_better: bool,
    columns: Mapping[str, Sequence[Any]],
    types: Mapping[str, str],
    seed: int = 0,
) -> Slices:
    """The slices of rows, of at least 30 and not nearly all, in which `each` float64 [n], whose mean is the metric, is
    worst beside the other rows: in standard errors, the worst first."""
    most = len(each) - FEWEST_ROWS
    slices = [(name, rows) for name, rows in _candidates(columns, types) if FEWEST_ROWS <= rows.sum() <= most]
    if not slices or np.ptp(each) == 0:
        return Slices(len(slices), 0.0, [])
    names = [name for name, _ in slices]
    member = np.stack([rows for _, rows in slices]).astype(np.float64)  # [S, n]
    behind = _behind(each[None], member, higher_is_better)[0]
    null = []
    at_once = max(1, _CELLS_AT_ONCE // len(each))
    for first in range(0, _SHUFFLES, at_once):
        dice = np.random.default_rng(rng.key(seed, "shuffled scores", first))
        shuffled = dice.permuted(np.tile(each, (min(at_once, _SHUFFLES - first), 1)), axis=1)
        null.append(_behind(shuffled, member, higher_is_better).max(1))
    worst_by_chance = np.concatenate(null)
    share = bool(np.isin(each, (0.0, 1.0)).all())
    out = []
    for s in np.argsort(-behind, kind="stable")[:MAX_SHOWN]:
        rows = each[member[s] > 0]
        score = wilson(float(rows.sum()), len(rows)) if share else intervals.bootstrap(rows, seed=seed)
        p = (1 + int((worst_by_chance >= behind[s] - 1e-12).sum())) / (1 + _SHUFFLES)
        column, group = names[s]
        elsewhere = float(each[member[s] == 0].mean())
        out.append(Slice(column, group, len(rows), score, elsewhere, float(behind[s]), p))
    return Slices(len(names), float(np.quantile(worst_by_chance, CHANCE)), out)


def _behind(each: np.ndarray, member: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """By how many standard errors each slice [S] is worse than all rows, of each row of scores [k, n]: [k, S]."""
    n, inside = each.shape[1], member.sum(1)
    means = each @ member.T / inside
    errors = each.std(1, keepdims=True) * np.sqrt((1 / inside - 1 / n) * n / (n - 1))
    return (1 if higher_is_better else -1) * (each.mean(1, keepdims=True) - means) / errors


def _candidates(
    columns: Mapping[str, Sequence[Any]], types: Mapping[str, str]
) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Column and group of each slice, and its rows, bool [n]."""
    for column, values in columns.items():
        for groups in _groupings(column, values, types[column]):
            for g, name in enumerate(groups.names):
                yield (groups.column, name), groups.of == g
        yield (column, "missing"), np.array([value is None for value in values], dtype=bool)


def _groupings(column: str, values: Sequence[Any], kind: str) -> list[Groups]:
    """By values where they are few or lie on a line; by length where they are texts."""
    out = []
    if issubclass(column_types.get(kind).encoder, FreeText):
        lengths = [len(value) if isinstance(value, str) else None for value in values]
        if any(length is not None for length in lengths):
            out.append(by_quarter(f"{_LENGTH}{column}", lengths))
    with suppress(UsageError, DataError):  # too many values, or none: no slices
        out.append(group_rows(column, values, kind))
    return out
