"""Rows that a model has seen, and in which split: it travels with the model, as digests.

So no later stage holds out a row that an earlier one learnt from, whatever it asks for and however its table is sorted.
A row is known by its values in a few columns that tell the rows of its first table apart; of those only a hash is kept.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onetrunk.data import spool
from onetrunk.data.duplicates import fingerprint_keys, fingerprints, in_parts, numbered, row_keys
from onetrunk.data.split import SPLITS
from onetrunk.data.table import Table


@dataclass(frozen=True, eq=False)
class SeenRows:
    """The rows of one stage of training: `digests` uint64 [rows] of their values in `columns` (name to type), `splits`
    uint8 [rows] (numbers of `SPLITS`). `held_out_only`: the training rows are not among them, as with private training:
    of a table that has some of the others, the rest was learnt from."""

    columns: Mapping[str, str]
    digests: np.ndarray
    splits: np.ndarray
    held_out_only: bool = False

    def as_json(self) -> dict[str, Any]:
        """All but the arrays."""
        out = {"columns": dict(self.columns), "rows": len(self.digests)}
        return out | ({"held_out_only": True} if self.held_out_only else {})

    @classmethod
    def parse(cls, kept: Mapping[str, Any], digests: np.ndarray, splits: np.ndarray) -> SeenRows:
        """The inverse of `as_json`, with the arrays. Raises ValueError for arrays that are of other rows."""
        if not digests.shape == splits.shape == (kept["rows"],) or splits.max(initial=0) >= len(SPLITS):
            raise ValueError(f"{kept['rows']:,} rows that were seen have as many digests and splits")
        return cls(kept["columns"], digests.view("<u8"), splits, kept.get("held_out_only", False))

    @classmethod
    def of_text(cls, kept: Mapping[str, Any]) -> SeenRows:
        """Of folders whose provenance.json holds the rows themselves: digests in base 64, a digit for each split."""
        digits = kept["splits"] if "splits" in kept else kept["parts"]  # "parts": the first edition's folders
        digests = np.frombuffer(base64.b64decode(kept["rows"]), dtype="<u8")
        splits = np.frombuffer(digits.encode(), dtype=np.uint8) - np.uint8(ord("0"))
        return cls.parse({**kept, "rows": len(digests)}, digests, splits)

    def without_training_rows(self) -> SeenRows:
        """What a private model tells."""
        return replace(self, held_out_only=True)

    def digest(self) -> str:
        """Equal for equal rows."""
        digest = hashlib.blake2b(repr((sorted(self.columns.items()), self.held_out_only)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.digests).data)
        digest.update(np.ascontiguousarray(self.splits).data)
        return digest.hexdigest()


def record(table: Table, types: Mapping[str, str], names: Sequence[str], splits: Mapping[str, np.ndarray]) -> SeenRows:
    """What to keep of a split; `names` are the columns by which rows may be known. Rows of no split are not met."""
    split_of = np.full(len(table), -1, dtype=np.int8)
    for number, name in enumerate(SPLITS):
        split_of[splits[name]] = number
    rows = table.take(split_of >= 0)
    chosen = _telling({name: numbered(fingerprint_keys(rows[name], types[name])) for name in names})
    columns = {name: types[name] for name in chosen}
    return SeenRows(columns, _digests(rows, columns), split_of[split_of >= 0].astype(np.uint8))


def splits_before(table: Table, records: Sequence[SeenRows]) -> np.ndarray:
    """The earliest split that each row had in any recorded split, int8 [rows]: 0 train, 1 val, 2 test, -1 none.

    Of equal rows that stood in several splits each takes one, in their order. A record by columns that the table lacks
    says nothing (`absent_columns`).
    """
    out = np.full(len(table), -1, dtype=np.int8)
    for kept in records:
        if absent_columns(table, [kept]):
            continue
        splits_now = _splits_of(_digests(table, kept.columns), kept.digests, kept.splits)
        if kept.held_out_only and (splits_now >= 0).any():
            splits_now = np.maximum(splits_now, 0)
        out = np.where((out < 0) | ((splits_now >= 0) & (splits_now < out)), splits_now, out)
    return out


def _splits_of(mine: np.ndarray, known: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """The split of each row, int8, -1 where it is not `known`: the k-th of equal rows takes that of the k-th known one;
    where there are more than are known, the others take the earliest."""
    out = np.full(len(mine), -1, dtype=np.int8)
    for rows, before in in_parts(mine, known):
        if len(before):
            out[rows] = _of_part(mine[rows], known[before], splits[before])
    return out


def _of_part(mine: np.ndarray, known: np.ndarray, splits: np.ndarray) -> np.ndarray:
    order = np.argsort(known, kind="stable")
    known, splits = known[order], splits[order]
    first, behind = np.searchsorted(known, mine, side="left"), np.searchsorted(known, mine, side="right")
    by_digest = np.argsort(mine, kind="stable")
    starts = _starts(mine[by_digest])
    rank = np.empty(len(mine), dtype=np.int64)
    rank[by_digest] = np.arange(len(mine)) - np.repeat(starts, np.diff(np.append(starts, len(mine))))
    groups = _starts(known)
    earliest = np.minimum.reduceat(splits, groups)
    out = np.full(len(mine), -1, dtype=np.int8)
    there = np.flatnonzero(behind > first)
    own = there[rank[there] < (behind - first)[there]]
    others = there[rank[there] >= (behind - first)[there]]
    out[own] = splits[first[own] + rank[own]]
    out[others] = earliest[np.searchsorted(groups, first[others])]
    return out


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Where equal ones begin."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])


def absent_columns(table: Table, records: Sequence[SeenRows]) -> list[str]:
    """The columns without which rows cannot be known again, and which the table lacks."""
    return [name for kept in records for name in kept.columns if name not in table.columns]


def _telling(codes: Mapping[str, np.ndarray]) -> list[str]:
    """Columns that together tell as many rows apart as all do, those with the most different values first. `codes`: a
    number for each of a column's values."""
    counts = {name: int(code.max(initial=-1)) + 1 for name, code in codes.items()}
    ordered = sorted(codes, key=lambda name: -counts[name])
    chosen: list[str] = []
    group = np.zeros(len(next(iter(codes.values()), [])), dtype=np.int64)
    for name in ordered:
        finer = numbered(row_keys([group, codes[name]], len(group)))
        if not chosen or finer.max(initial=0) > group.max(initial=0):
            chosen, group = [*chosen, name], finer
    return chosen


def _digests(table: Table, columns: Mapping[str, str]) -> np.ndarray:
    """64 bits of each row's values in some columns (name to type), uint64 [rows]."""
    rows = zip(*(fingerprints(table[name], kind) for name, kind in columns.items()), strict=True)
    out = spool.zeros((len(table),), "<u8")
    for i, row in enumerate(rows):
        digest = hashlib.blake2b(repr(row).encode("utf-8", "replace"), digest_size=8).digest()
        out[i] = int.from_bytes(digest, "little")
    return out
