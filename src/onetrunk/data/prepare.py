"""Table rows to what a model trains on: codecs fitted on training rows, values encoded, every loss in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.core.column import Codec, Column
from onetrunk.core.content import Content
from onetrunk.core.errors import DataError
from onetrunk.core.registry import column_types
from onetrunk.data.cache import Cache
from onetrunk.data.ledger import Ledger
from onetrunk.data.pack import Store
from onetrunk.data.table import Table


def fit_columns(
    table: Table,
    names: Sequence[str],
    types: Mapping[str, str],
    options: Mapping[str, dict[str, Any]],
    cache: Cache | None = None,
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
        values = [v for name in sharing for v in table[name] if v is not None]
        where = " and ".join(map(repr, sharing))
        if not values:
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
    table: Table, columns: Sequence[Column], codecs: Mapping[str, Codec], ledger: Ledger, cache: Cache | None = None
) -> Store:
    """Encodes a table's columns; a column the table lacks is missing in every row."""
    place = np.full((len(table), len(columns)), -1, dtype=np.int64)
    contents = []
    for c, column in enumerate(columns):
        codec = codecs[column.codec]
        values = table.columns.get(column.name, [None] * len(table))

        def bad(i: int, reason: str, name: str = column.name) -> None:
            ledger.add(reason, name, int(table.row[i]), bad=True)

        content, present = (
            codec.encode_all(values, bad) if cache is None else cache.encode(codec, column.type, values, bad)
        )
        place[present, c] = np.arange(int(present.sum()))
        contents.append(content)
    store = Store([c.name for c in columns], [codecs[c.codec] for c in columns], contents, place)
    for c, (name, codec) in enumerate(zip(store.names, store.codecs, strict=True)):
        for reason, count in codec.dropped(contents[c], *_read_on(store, c)).items():
            ledger.add(reason, name, n=count)
    return store


def _read_on(store: Store, c: int) -> tuple[Content, np.ndarray] | tuple[()]:
    """For a column that reads on another: the other's content, and where in it each of this one's values stands."""
    other = store.codecs[c].reads_on()
    if other not in store.names:
        return ()
    o = store.names.index(other)
    return store.contents[o], store.index[store.index[:, c] >= 0, o]
