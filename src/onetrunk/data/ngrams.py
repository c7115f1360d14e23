"""Hashed n-grams of words and characters of many texts at once: what simple models of text look at. NumPy only.

A feature is a 64-bit number, equal wherever the n-gram is (two n-grams of a million share one with a chance of 3e-8).
Words stand between characters that are neither letters nor digits, in any script; case does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
_CHARACTERS_AT_ONCE = 32_768  # what is sorted then fits in a core's cache: twice as fast as of a million
_SEPARATOR = "\0"

Counted = tuple[np.ndarray, np.ndarray, np.ndarray]  # row int64 [n], feature uint64 [n], count int64 [n]


def word_ngrams(texts: Sequence[str], high: int = 2) -> Counted:
    """How often each run of 1 to `high` words stands in each text, by row and feature in order."""
    return _joined(blocks_of_words(texts, high))


def character_ngrams(texts: Sequence[str], low: int = 1, high: int = 5) -> Counted:
    """How often each run of `low` to `high` characters stands in each text, by row and feature in order."""
    return _joined(blocks_of_characters(texts, low, high))


def blocks_of_words(texts: Sequence[str], high: int = 2) -> Iterator[Counted]:
    """What `word_ngrams` counts, a block of texts at a time."""
    return _in_blocks(texts, lambda codes, row: _words(codes, row, high))


def blocks_of_characters(texts: Sequence[str], low: int = 1, high: int = 5) -> Iterator[Counted]:
    """What `character_ngrams` counts, a block of texts at a time."""
    return _in_blocks(texts, lambda codes, row: _characters(codes, row, low, high))


def text_keys(texts: Sequence[str]) -> np.ndarray:
    """One number a text, uint64 [m], equal for equal ones."""
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _in_blocks(
    texts: Sequence[str], features: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> Iterator[Counted]:
    first = 0
    while first < len(texts):
        last, size = first, 0
        while last < len(texts) and (last == first or size + len(texts[last]) <= _CHARACTERS_AT_ONCE):
            size += len(texts[last]) + 1
            last += 1
        codes, row = _codes(texts[first:last])
        yield _counted(*features(codes, row + first))
        first = last


def _joined(blocks: Iterator[Counted]) -> Counted:
    empty = np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64)
    rows, hashes, counts = map(list, zip(empty, *blocks, strict=True))
    return np.concatenate(rows), np.concatenate(hashes), np.concatenate(counts)


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Code points of all texts in lower case, uint32, a separator after each; and whose each is, -1 for separators."""
    lower = [" ".join(text.lower().split()).replace(_SEPARATOR, " ") for text in texts]
    joined = "".join(text + _SEPARATOR for text in lower)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    row = np.repeat(np.arange(len(lower)), [len(text) + 1 for text in lower])
    return codes, row


def _characters(codes: np.ndarray, row: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    runs = np.zeros((len(codes), high + 1 - low), dtype=np.uint64)  # that begin at each character
    there = np.zeros(runs.shape, dtype=bool)
    running = np.zeros(len(codes), dtype=np.uint64)
    inside = np.ones(len(codes), dtype=bool)
    with np.errstate(over="ignore"):
        for n in range(1, high + 1):
            shifted = codes[n - 1 :].astype(np.uint64)
            running = _mixed(running[: len(shifted)] * _BASE + shifted + np.uint64(n))
            inside = inside[: len(shifted)] & (shifted != 0)
            if n >= low:
                runs[: len(shifted), n - low], there[: len(shifted), n - low] = running, inside
    return np.repeat(row, there.sum(1)), runs[there]


def _words(codes: np.ndarray, row: np.ndarray, high: int) -> tuple[np.ndarray, np.ndarray]:
    kinds, which = np.unique(codes, return_inverse=True)
    letters = np.array([chr(code).isalnum() for code in kinds.tolist()], dtype=bool)[which]
    edges = np.diff(np.concatenate([[False], letters, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    with np.errstate(over="ignore"):
        powers = np.multiply.accumulate(np.full(len(codes), _BASE, dtype=np.uint64))
        inverses = np.multiply.accumulate(np.full(len(codes), _INVERSE, dtype=np.uint64))
        sums = np.concatenate([[np.uint64(0)], np.add.accumulate(codes.astype(np.uint64) * powers)])
        word = _mixed((sums[ends] - sums[starts]) * inverses[starts] + (ends - starts).astype(np.uint64))
        runs = np.zeros((len(word), high), dtype=np.uint64)  # that begin with each word
        there = np.zeros(runs.shape, dtype=bool)
        running, whose = np.zeros(len(word), dtype=np.uint64), row[starts]
        for n in range(1, high + 1):
            last = word[n - 1 :]
            running = _mixed(running[: len(last)] * _BASE + last + np.uint64(1000 + n))
            runs[: len(last), n - 1] = running
            there[: len(last), n - 1] = whose[: len(last)] == whose[n - 1 :]
    return np.repeat(whose, there.sum(1)), runs[there]


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, in place: every bit depends on every other."""
    with np.errstate(over="ignore"):
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


def _counted(row: np.ndarray, hashes: np.ndarray) -> Counted:
    """Of n-grams that stand row behind row. Each row's are sorted by themselves, by value: far faster than in the order
    of two keys."""
    if not len(row):
        return row.astype(np.int64), hashes, np.zeros(0, np.int64)
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    for first, last in pairwise([*starts.tolist(), len(row)]):
        hashes[first:last].sort()
    new = hashes != np.roll(hashes, 1)
    new[starts] = True
    kept = np.flatnonzero(new)
    return row[kept].astype(np.int64), hashes[kept], np.diff(kept, append=len(row))
