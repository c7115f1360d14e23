"""Rows that a model has met, and in which part: the split travels with the model, as digests.

So no later stage holds out a row that an earlier one learnt from, whatever it asks for and however its table is sorted.
A row is known by its values in a few columns that tell the rows of its first table apart; of those only a hash is kept.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.data.split import SPLITS, fingerprints, numbered
from onetrunk.data.table import Table

Record = dict[str, Any]  # JSON: "columns" (name to type), "rows" (digests), "splits" (one digit a row)
_Prints = Mapping[str, Sequence[str | None]]


def record(table: Table, types: Mapping[str, str], names: Sequence[str], parts: Mapping[str, np.ndarray]) -> Record:
    """What to keep of a split; `names` are the columns by which rows may be known. Rows of no part are not met."""
    part = np.full(len(table), -1)
    for number, name in enumerate(SPLITS):
        part[parts[name]] = number
    rows = table.take(part >= 0)
    prints = {name: fingerprints(rows[name], types[name]) for name in names}
    chosen = _telling(prints)
    return {
        "columns": {name: types[name] for name in chosen},
        "rows": base64.b64encode(_digests({name: prints[name] for name in chosen}).tobytes()).decode(),
        "splits": "".join(map(str, part[part >= 0].tolist())),
    }


def splits_before(table: Table, records: Sequence[Record]) -> np.ndarray:
    """The earliest part that each row had in any recorded split, int64 [rows]: 0 train, 1 val, 2 test, -1 none.

    Of equal rows that stood in several parts each takes one, in their order. A record by columns that the table lacks
    says nothing (`absent_columns`).
    """
    out = np.full(len(table), -1, dtype=np.int64)
    for kept in records:
        if absent_columns(table, [kept]):
            continue
        known: dict[int, list[int]] = defaultdict(list)
        rows = np.frombuffer(base64.b64decode(kept["rows"]), dtype="<u8")
        for digest, part in zip(rows.tolist(), map(int, kept.get("splits", kept.get("parts"))), strict=True):
            known[digest].append(part)
        times: Counter[int] = Counter()
        mine = _digests({name: fingerprints(table[name], kind) for name, kind in kept["columns"].items()})
        for i, digest in enumerate(mine.tolist()):
            if digest in known:
                had = known[digest]
                part = had[times[digest]] if times[digest] < len(had) else min(had)
                times[digest] += 1
                out[i] = part if out[i] < 0 else min(out[i], part)
    return out


def absent_columns(table: Table, records: Sequence[Record]) -> list[str]:
    """The columns without which rows cannot be known again, and which the table lacks."""
    return [name for kept in records for name in kept["columns"] if name not in table.columns]


def _telling(prints: _Prints) -> list[str]:
    """Columns that together tell as many rows apart as all do, those with the most different values first."""
    codes = {name: numbered(values) for name, values in prints.items()}
    counts = {name: int(code.max(initial=-1)) + 1 for name, code in codes.items()}
    ordered = sorted(codes, key=lambda name: -counts[name])
    chosen: list[str] = []
    group = np.zeros(len(next(iter(codes.values()), [])), dtype=np.int64)
    for name in ordered:
        finer = np.unique(group * max(1, counts[name]) + codes[name], return_inverse=True)[1]
        if not chosen or finer.max(initial=0) > group.max(initial=0):
            chosen, group = [*chosen, name], finer
    return chosen


def _digests(prints: _Prints) -> np.ndarray:
    """64 bits of each row's values, uint64 [rows]."""
    rows = zip(*prints.values(), strict=True)
    joined = b"".join(hashlib.blake2b(repr(row).encode("utf-8", "replace"), digest_size=8).digest() for row in rows)
    return np.frombuffer(joined, dtype="<u8")
