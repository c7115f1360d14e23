"""Table rows to what a model trains on: codecs fitted on training rows, values encoded, every loss in the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onetrunk.core.content import Content
from onetrunk.core.encoder import Column
from onetrunk.core.errors import DataError
from onetrunk.core.registry import column_types
from onetrunk.core.values import Repeated, chain, of_present
from onetrunk.data.cache import ColumnCache
from onetrunk.data.ledger import Ledger
from onetrunk.data.store import ENCODED_AT_ONCE, Store, encode_values
from onetrunk.data.table import Table

if TYPE_CHECKING:
    from onetrunk.core.column import Codec


def fit_columns(
    table: Table,
    names: Sequence[str],
    types: Mapping[str, str],
    options: Mapping[str, dict[str, Any]],
    cache: ColumnCache | None = None,
) -> tuple[list[Column], dict[str, Codec]]:
    """Fits a codec for each column on the table's (training) rows. Types that share one see all their columns' values.

    A column with options of its own has a codec of its own. Raises DataError naming the column that cannot be fitted.
    """
    columns, members, codecs = [], {}, {}
    for name in names:
        kind = types[name]
        own = dict(options.get(name, {}))
        key = kind if column_types.get(kind).shared and not own else _own_key(name, names)
        columns.append(Column(name, kind, key))
        members.setdefault(key, (kind, own, []))[2].append(name)
    for key, (kind, own, sharing) in members.items():
        codec = column_types.get(kind)(own)
        values = chain([of_present(table[name]) for name in sharing])
        where = " and ".join(map(repr, sharing))
        if not len(values):
            raise DataError(f"The column {where} has no value in the training rows.")
        try:
            codec.fit(values) if cache is None else cache.fit(codec, kind, values)
        except DataError as error:
            raise DataError(f"The column {where}: {error}") from None
        codecs[key] = codec
    return columns, codecs


def _own_key(name: str, names: Sequence[str]) -> str:
    """A column's name, unless it is that of a type whose columns share a codec: then one that nothing else has."""
    key = name
    while (key in column_types.names() and column_types.get(key).shared) or (key != name and key in names):
        key += " (column)"
    return key


def encode(
    table: Table,
    columns: Sequence[Column],
    codecs: Mapping[str, Codec],
    ledger: Ledger,
    cache: ColumnCache | None = None,
) -> Store:
    """Encodes a table's columns; a column the table lacks is missing in every row."""
    n = len(table)
    index = np.full((n, len(columns)), -1, dtype=np.int64)
    store = Store([c.name for c in columns], [codecs[c.codec] for c in columns], [], index)
    dropped: list[Counter[str]] = []
    for c, (column, codec) in enumerate(zip(columns, store.codecs, strict=True)):
        values = table.columns.get(column.name, Repeated(None, n))
        counts: Counter[str] = Counter()
        alone = codec.reads_on() not in store.names

        def bad(i: int, reason: str, name: str = column.name) -> None:
            ledger.add(reason, name, int(table.row[i]), bad=True)

        def count(content: Content, codec: Codec = codec, counts: Counter[str] = counts, alone: bool = alone) -> None:
            if alone:
                counts.update(codec.dropped(content))

        content, present = (
            encode_values(codec, values, bad, count)
            if cache is None
            else cache.encode(codec, column.type, values, bad, count)
        )
        index[present, c] = np.arange(int(present.sum()))
        store.contents.append(content)
        dropped.append(counts)
    for c, (name, counts) in enumerate(zip(store.names, dropped, strict=True)):
        _count_beside(store, c, counts)
        for reason, count_ in counts.items():
            ledger.add(reason, name, n=count_)
    return store


def _count_beside(store: Store, c: int, counts: Counter[str]) -> None:
    """What is dropped of a column that reads on another: that depends on the other's content, and where in it each of
    this one's values stands."""
    codec, content = store.codecs[c], store.contents[c]
    if (other := codec.reads_on()) not in store.names:
        return
    o = store.names.index(other)
    beside = store.index[store.index[:, c] >= 0, o]
    for first in range(0, len(content), ENCODED_AT_ONCE):
        rows = np.arange(first, min(first + ENCODED_AT_ONCE, len(content)))
        counts.update(codec.dropped(content.take(rows), store.contents[o], beside[rows]))
