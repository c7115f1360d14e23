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
    return _in_blocks(texts, lambda codes, lens: _words(codes, lens, high))


def blocks_of_characters(texts: Sequence[str], low: int = 1, high: int = 5) -> Iterator[Counted]:
    """What `character_ngrams` counts, a block of texts at a time."""
    return _in_blocks(texts, lambda codes, lens: _characters(codes, lens, low, high))


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
        yield _counted(first, *features(*_codes(texts[first:last])))
        first = last


def _joined(blocks: Iterator[Counted]) -> Counted:
    empty = np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64)
    rows, hashes, counts = map(list, zip(empty, *blocks, strict=True))
    return np.concatenate(rows), np.concatenate(hashes), np.concatenate(counts)


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Code points of all texts in lower case, uint32, a separator after each; and how many each text has without it."""
    lower = [" ".join(text.lower().split()).replace(_SEPARATOR, " ") for text in texts]
    joined = "".join(text + _SEPARATOR for text in lower)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return codes, np.array([len(text) for text in lower], dtype=np.int64)


def _characters(codes: np.ndarray, lens: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    characters = codes[codes != 0].astype(np.uint64)
    runs = np.zeros((len(characters), high + 1 - low), dtype=np.uint64)  # that begin at each character
    running = np.zeros(len(characters), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for n in range(1, high + 1):
            last = characters[n - 1 :]
            running = _mixed(running[: len(last)] * _BASE + last + np.uint64(n))
            if n >= low:
                runs[: len(last), n - low] = running
    there, counts = _runs(lens, low, high)
    return runs[there], counts


def _words(codes: np.ndarray, lens: np.ndarray, high: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.diff(_letters(codes).view(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    with np.errstate(over="ignore"):
        powers = np.multiply.accumulate(np.full(len(codes), _BASE, dtype=np.uint64))
        inverses = np.multiply.accumulate(np.full(len(codes), _INVERSE, dtype=np.uint64))
        sums = np.concatenate([[np.uint64(0)], np.add.accumulate(codes.astype(np.uint64) * powers)])
        word = _mixed((sums[ends] - sums[starts]) * inverses[starts] + (ends - starts).astype(np.uint64))
        runs = np.zeros((len(word), high), dtype=np.uint64)  # that begin with each word
        running = np.zeros(len(word), dtype=np.uint64)
        for n in range(1, high + 1):
            last = word[n - 1 :]
            running = _mixed(running[: len(last)] * _BASE + last + np.uint64(1000 + n))
            runs[: len(last), n - 1] = running
    there, counts = _runs(np.diff(np.searchsorted(starts, np.cumsum(lens + 1)), prepend=0), 1, high)
    return runs[there], counts


def _letters(codes: np.ndarray) -> np.ndarray:
    """Which are letters or digits, bool."""
    is_letter = np.zeros(int(codes.max()) + 1, dtype=bool)
    is_letter[codes] = True
    is_letter[[code for code in np.flatnonzero(is_letter).tolist() if not chr(code).isalnum()]] = False
    return is_letter[codes]


def _runs(lens: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Of texts of so many parts: which runs that begin with each part end in its text, bool [all, high + 1 - low], and
    how many those are in each text."""
    left = np.repeat(np.cumsum(lens), lens) - np.arange(lens.sum())
    sizes = np.arange(low, high + 1)
    return left[:, None] >= sizes, np.maximum(lens[:, None] + 1 - sizes, 0).sum(1)


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, in place: every bit depends on every other."""
    with np.errstate(over="ignore"):
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


def _counted(first: int, hashes: np.ndarray, counts: np.ndarray) -> Counted:
    """Of n-grams of texts from `first` on, so many of each, text behind text. Each text's are sorted by themselves, by
    value: far faster than in the order of two keys."""
    ends = np.cumsum(counts)
    for start, end in pairwise([0, *ends.tolist()]):
        hashes[start:end].sort()
    new = np.ones(len(hashes), dtype=bool)
    np.not_equal(hashes[1:], hashes[:-1], out=new[1:])
    new[(ends - counts)[counts > 0]] = True
    kept = np.flatnonzero(new)
    kinds = np.diff(np.searchsorted(kept, ends), prepend=0)  # of each text
    return np.repeat(np.arange(first, first + len(counts)), kinds), hashes[kept], np.diff(kept, append=len(hashes))
