"""Mixtures: how often each of several tables is drawn from, whatever their sizes.

Draws come in rounds of a thousand, in each of which every table has its share, in an order that is keyed. So which row
a draw gives is a function of its number alone, and no table's rows are drawn again before all of them were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onetrunk.core import rng
from onetrunk.core.errors import UsageError, unknown
from onetrunk.data import spool

_ROUND = 1000  # draws


@dataclass(frozen=True)
class Mixture:
    """`table` int16 [rows] says which table each row is of; `weights` float64 [tables] how often each is drawn."""

    table: np.ndarray
    weights: np.ndarray

    def take(self, rows: np.ndarray) -> Mixture:
        return Mixture(self.table[rows], self.weights)

    def pools(self, turns: np.ndarray) -> list[tuple[Pool, int]]:
        """The rows' turns by table, and how many draws of a round each has; tables that have none are left out."""
        pools = [Pool.of(np.where((self.table == t) & (weight > 0), turns, 0)) for t, weight in enumerate(self.weights)]
        there = [t for t, own in enumerate(pools) if len(own)]
        if not there:
            return [(Pool.of(turns), _ROUND)]
        return list(zip([pools[t] for t in there], _quotas(self.weights[there]), strict=True))


@dataclass(frozen=True)
class Pool:
    """Rows to draw from, each as often as it has turns: without a list in which it stands so often."""

    ends: np.ndarray  # int64 [rows], where each row's turns end

    @classmethod
    def of(cls, turns: np.ndarray) -> Pool:
        """How often each row comes up in one pass, a number [rows]."""
        ends = spool.zeros((len(turns),), np.int64)
        np.cumsum(turns, out=ends)
        return cls(ends)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, turns: np.ndarray) -> np.ndarray:
        """Whose turns these are, int64 [k]."""
        return np.searchsorted(self.ends, turns, side="right")

    @property
    def drawn(self) -> np.ndarray:
        """Which rows come up, bool [rows]."""
        return np.diff(self.ends, prepend=0) > 0


def draw(pools: Sequence[tuple[Pool, int]], draws: np.ndarray, *key: int | str) -> np.ndarray:
    """The rows of these draws (their numbers, from 0 on), int64 [k]. Within a table each pass has an order of its own,
    which `key` decides."""
    quotas = np.array([quota for _, quota in pools])
    rounds, place = draws // quotas.sum(), draws % quotas.sum()
    which, turn = np.zeros(len(draws), dtype=np.int64), place
    if len(pools) > 1:
        turn = np.empty(len(draws), dtype=np.int64)
        for each in np.unique(rounds):
            here = rounds == each
            of, before = _turns(quotas, rng.key(*key, "mixture", int(each)))
            which[here], turn[here] = of[place[here]], before[place[here]]
    rows = np.empty(len(draws), dtype=np.int64)
    for t, (pool, quota) in enumerate(pools):
        own = np.flatnonzero(which == t)
        number = rounds[own] * quota + turn[own]
        passes, index = number // len(pool), number % len(pool)
        name: tuple[int | str, ...] = (t,) if len(pools) > 1 else ()
        for each in np.unique(passes):
            here = passes == each
            order = rng.permuted(rng.key(*key, *name, int(each)), index[here], len(pool))
            rows[own[here]] = pool[order]
    return rows


def _turns(quotas: np.ndarray, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each draw of a round: its table, and how many draws of that came before it, int64 [draws]."""
    total = int(quotas.sum())
    of = np.repeat(np.arange(len(quotas)), quotas)[rng.permuted(key, np.arange(total), total)]
    before = np.empty(total, dtype=np.int64)
    for t, quota in enumerate(quotas):
        before[of == t] = np.arange(quota)
    return of, before


def _quotas(weights: np.ndarray) -> list[int]:
    """Whole draws of a round, at least one each, as near to the weights as that allows (largest remainders)."""
    wanted = weights / weights.sum() * _ROUND
    quotas = np.maximum(1, np.floor(wanted)).astype(np.int64)
    order = np.argsort(quotas - wanted, kind="stable")  # those first that have the most to get
    missing = max(0, _ROUND - int(quotas.sum()))
    quotas[order[:missing]] += 1
    return quotas.tolist()


def mixture_of(tables: Sequence[tuple[str, int]], weights: Mapping[str, float]) -> Mixture | None:
    """A mixture of the tables of these names and numbers of rows; files of one name are one table. None without
    weights. UsageError where a weight names none of them, or one of them has none."""
    if not weights:
        return None
    names = list(dict.fromkeys(name for name, _ in tables))
    if len(names) < 2:
        raise UsageError(
            "--mixture is of several tables: give them with commas between, or a table that was prepared of them; "
            f"found {', '.join(names) or 'one table'}."
        )
    for name in weights:
        if name not in names:
            raise unknown("table", name, names)
    for name in names:
        if name not in weights:
            raise UsageError(f"--mixture says nothing of the table {name!r}: give it a weight, or 0 to leave it out.")
    chosen = np.array([weights[name] for name in names], dtype=np.float64)
    if (chosen < 0).any() or not chosen.sum() > 0:
        raise UsageError(f"--mixture expects weights of 0 or more, and one above 0; found {dict(weights)}.")
    of = np.repeat([names.index(name) for name, _ in tables], [rows for _, rows in tables])
    return Mixture(of.astype(np.int16), chosen)
