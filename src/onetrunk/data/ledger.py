"""The ledger: counts every row or value that was dropped, cut, repaired or repeated, with the reason."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from onetrunk.core.errors import DataError

MAX_BAD = 0.01  # share of values that may be unusable, by default
_MOST_EXAMPLES = 5
_MOST_REASONS = 20  # of one column: reasons that quote each value must not fill the ledger
_OTHER = "other reasons"


@dataclass
class Entry:
    """`bad`: the values were unusable and quarantined, not merely cut, repaired or repeated."""

    column: str
    reason: str
    count: int = 0
    bad: bool = False
    rows: list[int] = field(default_factory=list)


class Ledger:
    """Adds up by (column, reason), with the first rows as examples."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, bool], Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, reason: str, column: str, row: int | None = None, n: int = 1, *, bad: bool = False) -> None:
        """`row` is the row number in the source (`Table.row`); `n` counts rows, or tokens."""
        key = (column, reason, bad)
        if key not in self._entries and sum(k[0] == column for k in self._entries) >= _MOST_REASONS:
            key = (column, _OTHER, bad)
        entry = self._entries.setdefault(key, Entry(column, key[1], bad=bad))
        entry.count += n
        if row is not None and len(entry.rows) < _MOST_EXAMPLES:
            entry.rows.append(int(row))

    def merge(self, other: Ledger) -> None:
        """Adds what another ledger counted."""
        for entry in other._entries.values():
            self.add(entry.reason, entry.column, n=entry.count, bad=entry.bad)
            key = (entry.column, entry.reason, entry.bad)
            mine = self._entries.get(key) or self._entries[entry.column, _OTHER, entry.bad]
            mine.rows = (mine.rows + entry.rows)[:_MOST_EXAMPLES]

    def bad(self, column: str | None = None) -> int:
        """How many values were unusable, in one column or in all."""
        return sum(e.count for e in self._entries.values() if e.bad and column in (None, e.column))

    def check(self, total: int, threshold: float = MAX_BAD) -> None:
        """Raises DataError when a column has more unusable values than `threshold` of `total` rows."""
        for column in dict.fromkeys(e.column for e in self._entries.values()):
            bad = self.bad(column)
            if bad > threshold * total:
                why = "; ".join(_line(e) for e in self._entries.values() if e.bad and e.column == column)
                raise DataError(
                    f"{bad:,} of {total:,} values of the column {column!r} cannot be used; at most "
                    f"{threshold:.2%} may be. {why}. Mend them, or allow more: "
                    f"--max-bad {_above(bad / max(total, 1))}"
                )

    def lines(self) -> list[str]:
        """For people, the most frequent first."""
        return [_line(e) for e in sorted(self._entries.values(), key=lambda e: -e.count)]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(e) for e in self._entries.values()]

    @classmethod
    def parse(cls, entries: list[dict[str, Any]]) -> Ledger:
        """The inverse of `as_json`."""
        ledger = cls()
        for entry in (Entry(**fields) for fields in entries):
            ledger._entries[entry.column, entry.reason, entry.bad] = entry
        return ledger


def _line(entry: Entry) -> str:
    rows = (
        f" (row{'s' if len(entry.rows) > 1 else ''} {', '.join(map(str, entry.rows))}{_more(entry)})"
        if entry.rows
        else ""
    )
    return f"{entry.column}: {entry.count:,} × {entry.reason}{rows}"


def _above(share: float) -> float:
    """The next whole hundredth: a threshold that lets this share pass."""
    return min(1.0, math.ceil(100 * share) / 100)


def _more(entry: Entry) -> str:
    return ", …" if entry.count > len(entry.rows) else ""
