"""Prepares table rows for training: fits encoders on training rows, encodes values, and counts losses in the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.core.content import Content
from onetrunk.core.encoder import Beside, Column, Encoder, reads_on
from onetrunk.core.errors import DataError
from onetrunk.core.registry import column_types
from onetrunk.core.values import Mapped, Repeated, Values, chain, of_present, present, take, written
from onetrunk.data import spool
from onetrunk.data.cache import ColumnCache
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepared.table import encoded_before, fitted_before
from onetrunk.data.store import ENCODED_AT_ONCE, Bad, Count, Store, encode_values
from onetrunk.data.table import Table

_COUNTED_AT_ONCE = 4096  # values


def fit_columns(
    table: Table,
    names: Sequence[str],
    types: Mapping[str, str],
    options: Mapping[str, dict[str, Any]],
    cache: ColumnCache | None = None,
) -> tuple[list[Column], dict[str, Encoder]]:
    """Fits an encoder for each column on the table's (training) rows. Types that share one see all their columns'
    values.

    A column with options of its own has an encoder of its own. Raises DataError naming the column that cannot be
    fitted.
    """
    columns: list[Column] = []
    members: dict[str, tuple[str, dict[str, Any], list[str]]] = {}
    encoders: dict[str, Encoder] = {}
    for name in names:
        kind = types[name]
        own = dict(options.get(name, {}))
        key = kind if column_types.get(kind).encoder.shared and not own else _own_key(name, names)
        columns.append(Column(name, kind, key))
        members.setdefault(key, (kind, own, []))[2].append(name)
    for key, (kind, own, sharing) in members.items():
        encoder = column_types.get(kind).encoder(own)
        encoders[key] = encoder
        if (known := fitted_before([table[name] for name in sharing], kind, own)) is not None:
            encoder.set_knowledge(known)
            continue
        values = chain([of_present(cells_of(encoder, table[name])) for name in sharing])
        where = " and ".join(map(repr, sharing))
        if not len(values):
            raise DataError(f"The column {where} has no value in the training rows.")
        try:
            encoder.fit(values) if cache is None else cache.fit(encoder, kind, values)
        except DataError as error:
            raise DataError(f"The column {where}: {error}") from None
    return columns, encoders


def as_learnt(table: Table, columns: Iterable[Column], encoders: Mapping[str, Encoder]) -> Table:
    """The table with these columns' values as the training rows had them, in whatever spelling or type they come: so
    that they can be compared, with training rows and with answers."""
    out = dict(table.columns)
    for column in columns:
        encoder = encoders[column.key]
        if column.name in out and (encoder.reads_cells or type(encoder).plain is not Encoder.plain):
            cells = cells_of(encoder, out[column.name])
            if isinstance(cells, Values):
                out[column.name] = Mapped(cells, encoder.plain)
            else:
                out[column.name] = encoder.plain(cells if isinstance(cells, list) else list(cells))
    return Table(out, table.source, table.row, table.notes)


def cells_of(encoder: Encoder, values: Sequence[Any]) -> Sequence[Any]:
    """A column's values as this encoder reads them: typed, or as they are written in a text file."""
    return written(values) if encoder.reads_cells else values


def _own_key(name: str, names: Sequence[str]) -> str:
    """A column's name, unless it is that of a type whose columns share an encoder: then one that nothing else has."""
    key = name
    while (key in column_types.names() and column_types.get(key).encoder.shared) or (key != name and key in names):
        key += " (column)"
    return key


def encode(
    table: Table,
    columns: Sequence[Column],
    encoders: Mapping[str, Encoder],
    ledger: Ledger,
    cache: ColumnCache | None = None,
) -> Store:
    """Encodes a table's columns; a column the table lacks is missing in every
    row."""
    n = len(table)
    index = spool.zeros((n, len(columns)), np.int64)
    index -= 1
    store = Store([c.name for c in columns], [encoders[c.key] for c in columns], [], index)
    dropped: list[Counter[str]] = []
    for c, column in enumerate(columns):
        encoder = store.encoders[c]
        values = cells_of(encoder, table.columns.get(column.name, Repeated(None, n)))
        counts: Counter[str] = Counter()

        def bad(i: int, reason: str, name: str = column.name) -> None:
            ledger.add(reason, name, int(table.row[i]), bad=True)

        def count(content: Content, encoder: Encoder = encoder, counts: Counter[str] = counts) -> None:
            counts.update(encoder.dropped(content))

        counting = count if reads_on(encoder) not in store.names else None
        if (kept := encoded_before(values, encoder)) is not None:
            content, index[:, c] = kept
            _count_kept(content, index[:, c], values, encoder, bad, counting)
        else:
            content, there = (
                encode_values(encoder, values, bad, counting)
                if cache is None
                else cache.encode(encoder, column.type, values, bad, counting)
            )
            index[there, c] = np.arange(int(there.sum()))
        store.contents.append(content)
        dropped.append(counts)
    for c, (name, counts) in enumerate(zip(store.names, dropped, strict=True)):
        _count_beside(store, c, counts)
        for reason, count_ in counts.items():
            ledger.add(reason, name, n=count_)
    return store


def _count_kept(
    content: Content, index: np.ndarray, values: Sequence[Any], encoder: Encoder, bad: Bad, count: Count
) -> None:
    """What the ledger is told of values that were encoded earlier, with others: as if these had been encoded now."""
    unusable = np.flatnonzero((index < 0) & present(values))
    if len(unusable):
        rows = unusable.tolist()
        encode_values(encoder, take(values, unusable), lambda i, reason: bad(rows[i], reason))
    if count is not None:
        there = index[index >= 0]
        for first in range(0, len(there), _COUNTED_AT_ONCE):
            count(content.take(there[first : first + _COUNTED_AT_ONCE]))


def _count_beside(store: Store, c: int, counts: Counter[str]) -> None:
    """What is dropped of a column that reads on another: that depends on the other's content, and where in it each of
    this one's values stands."""
    encoder, content = store.encoders[c], store.contents[c]
    if (other := reads_on(encoder)) not in store.names:
        return
    o = store.names.index(other)
    rows = np.flatnonzero(store.index[:, c] >= 0)
    for first in range(0, len(rows), ENCODED_AT_ONCE):
        some = rows[first : first + ENCODED_AT_ONCE]
        beside = Beside(store.contents[o], store.index[some, o])
        counts.update(encoder.dropped(content.take(store.index[some, c]), beside))
