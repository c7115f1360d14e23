"""Finds equal values and rows, by a 64-bit hash of each.

Values are told apart by 64-bit hashes of what their type calls equal. Of ten million rows, two different ones share a
hash once in three hundred thousand tables.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.encoder import EqualAsNumbers
from onetrunk.core.registry import column_types
from onetrunk.core.spans import spans
from onetrunk.core.values import blocks
from onetrunk.data import spool

NONE = 0  # the key of a missing value: keys are made of zeros
_EXACT = 1 << 53  # whole numbers up to here are floats without loss
_ROWS_OF_PART, _MOST_PARTS = 1 << 20, 250


# -- by the column's type ----------------------------------------------------------------------------------------------
def fingerprints(values: Sequence[Any], kind: str) -> Iterator[str | None]:
    """Equal for equal values, by the type's own rule; None where missing."""
    fingerprint = column_types.get(kind).encoder.fingerprint
    for block in blocks(values):
        yield from _of_each(block, fingerprint)


def fingerprint_keys(values: Sequence[Any], kind: str) -> np.ndarray:
    """Equal for equal values of this column, by the type's own rule, int64 [n]; `NONE` where missing. Of this process
    only."""
    encoder = column_types.get(kind).encoder
    keys = _number_keys(values) if issubclass(encoder, EqualAsNumbers) else None
    return keys_by(values, encoder.fingerprint) if keys is None else keys


def _number_keys(values: Sequence[Any]) -> np.ndarray | None:
    """Equal for equal numbers, int64 [n]; None where some value is another, or too large to be one exactly."""
    out = spool.zeros((len(values),), np.int64)
    first = 0
    for block in blocks(values):
        if not set(map(type, block)) <= {int, float, type(None)}:
            return None
        there = np.array([value is not None for value in block], dtype=bool)
        numbers = _exact([value for value in block if value is not None])
        if numbers is None or np.isnan(numbers).any():
            return None
        out[first + np.flatnonzero(there)] = _of_numbers(numbers)
        first += len(block)
    return out


def keys_by(values: Sequence[Any], function: Callable[[Any], str | None]) -> np.ndarray:
    """Equal where `function` gives equal strings, int64 [n]; `NONE` where it gives None or a value is missing."""
    out = spool.zeros((len(values),), np.int64)
    first = 0
    for block in blocks(values):
        texts = _of_each(block, function)
        out[first : first + len(block)] = [NONE if text is None else hash(text) or 1 for text in texts]
        first += len(block)
    return out


def _of_each(block: list[Any], function: Callable[[Any], str | None]) -> list[str | None]:
    """What the function makes of each value, None of a missing one; called once for equal ones."""
    kinds = set(map(type, block)) - {type(None)}
    if len(kinds) == 1 and kinds <= {str, int, float}:  # of two types, 1 and 1.0 would be one
        known: dict[Any, str | None] = {None: None}
        known.update((value, function(value)) for value in set(block) if value is not None)
        return [known[value] for value in block]
    return [None if value is None else function(value) for value in block]


# -- by the values themselves ------------------------------------------------------------------------------------------
def value_keys(values: Sequence[Any]) -> np.ndarray | None:
    """Equal for values that Python calls equal, int64 [n], `NONE` where missing; None where some cannot be compared
    cheaply: media are not opened here."""
    out = spool.zeros((len(values),), np.int64)
    first = 0
    for block in blocks(values):
        keys = block_keys(block)
        if keys is None:
            return None
        out[first : first + len(block)] = keys
        first += len(block)
    return out


def block_keys(block: list[Any]) -> np.ndarray | None:
    """As `value_keys`, of some values."""
    kinds = set(map(type, block))
    if kinds <= {int, float, bool} and (numbers := _exact(block)) is not None:
        return _of_numbers(numbers)
    if kinds == {str}:
        hashes = np.array(list(map(hash, block)), dtype=np.int64)
        return np.where(hashes == NONE, 1, hashes)
    keys = [NONE if value is None else _key(value) for value in block]
    return None if any(key is None for key in keys) else np.array(keys, dtype=np.int64)


def _exact(block: list[Any]) -> np.ndarray | None:
    """Numbers as float64, NaN among them, where none is so large that another one would be the same float."""
    try:
        numbers = np.array(block, dtype=np.float64)
    except OverflowError:
        return None
    return None if (np.abs(numbers) >= _EXACT).any() else numbers


def _of_numbers(numbers: np.ndarray) -> np.ndarray:
    keys = rng.mix(rng.key("float64"), (numbers + 0.0).view(np.uint64)).view(np.int64)  # + 0.0: -0 is 0
    return np.where(keys == NONE, 1, keys)


def _key(value: Any) -> int | None:
    if isinstance(value, int | float):
        if -_EXACT <= value <= _EXACT or value != value:
            return int(_of_numbers(np.array([value], dtype=np.float64))[0])
        return hash((int, value)) or 1
    if isinstance(value, str):
        return hash(value) or 1
    if isinstance(value, datetime.date):
        return hash((datetime.date, value)) or 1
    if isinstance(value, list | tuple | set):
        parts = tuple(NONE if v is None else _key(v) for v in value)
        return None if None in parts else hash((list, parts)) or 1
    return None


# -- rows --------------------------------------------------------------------------------------------------------------
def numbered(keys: np.ndarray) -> np.ndarray:
    """A number for every key, int64 [n]; equal ones have the same, counted from 0 as they come."""
    first = _first_equal(keys)
    rank = spool.zeros((len(first),), np.int64)
    np.cumsum(are_first(first), out=rank)
    for span in spans(len(first)):
        first[span] = rank[first[span]] - 1
    return first


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """The position of the first equal key, int64 [n]; `NONE` is its own."""
    out = _first_equal(keys)
    none = np.flatnonzero(keys == NONE)
    out[none] = none
    return out


def are_first(first: np.ndarray) -> np.ndarray:
    """Which rows are the first of those that are equal, bool [n], by what `first_of_each` says."""
    out = np.zeros(len(first), dtype=bool)
    for span in spans(len(first)):
        out[span] = first[span] == np.arange(span.start, span.stop)
    return out


def _first_equal(keys: np.ndarray) -> np.ndarray:
    out = spool.zeros((len(keys),), np.int64)
    for (rows,) in in_parts(keys):
        # Sorted, because a table of hashes takes several times as much memory.
        order = np.argsort(keys[rows])
        ordered = keys[rows[order]]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
        first = np.minimum.reduceat(order, starts) if len(order) else order
        out[rows[order]] = rows[np.repeat(first, np.diff(starts, append=len(order)))]
    return out


def in_parts(*keys: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Some positions after the other in each of the arrays, int64 and increasing, such that equal keys of all arrays
    come together: what is made of them on the way is never as large as an array."""
    count = min(_MOST_PARTS, max(map(len, keys)) // _ROWS_OF_PART + 1)
    if count == 1:
        yield tuple(np.arange(len(own)) for own in keys)
        return
    parts = [np.zeros(len(own), dtype=np.uint8) for own in keys]
    for part, own in zip(parts, keys, strict=True):
        for span in spans(len(own)):
            part[span] = rng.mix(own[span].view(np.uint64)) % np.uint64(count)
    for number in range(count):
        yield tuple(np.flatnonzero(part == number) for part in parts)


def row_keys(columns: Iterable[np.ndarray], n: int) -> np.ndarray:
    """One key for the keys of several columns, int64 [n]; `NONE` where all are."""
    columns, out = list(columns), spool.zeros((n,), np.int64)
    for span in spans(n):
        key, empty = np.zeros(span.stop - span.start, dtype=np.uint64), True
        for column in columns:
            key = rng.mix(key, column[span].view(np.uint64))
            empty &= column[span] == NONE
        out[span] = np.where(empty, NONE, np.where(key == NONE, 1, key).view(np.int64))
    return out
