"""Keyed randomness: every random number is a pure function of its key, never of a running state.

A key is a uint64. `key(seed, step, "dropout")` mixes anything hashable into one; `row_keys` makes one key a
row. Numbers are counter-based (SplitMix64, Steele et al. 2014): number i of key k is hash(k + i * gamma), so a
row's noise does not depend on which other rows are drawn beside it, on packing, or on the number of processes.
"""

from __future__ import annotations

import zlib

import numpy as np

from onetrunk.core.spans import spans

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_ROUNDS = 6  # of the Feistel network


def _hash(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * _MIX1
        x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def _as_uint64(part: int | str | np.ndarray) -> np.ndarray:
    if isinstance(part, str):
        part = zlib.crc32(part.encode())
    if isinstance(part, int):
        part %= 1 << 64
    return np.asarray(part).astype(np.uint64)


def mix(keys: np.ndarray | int, *parts: int | str | np.ndarray) -> np.ndarray:
    """Mixes parts (numbers, names, or arrays that broadcast) into keys. Returns uint64 of the broadcast shape."""
    out = _as_uint64(keys)
    with np.errstate(over="ignore"):
        for part in parts:
            out = _hash(out * _GAMMA + _as_uint64(part) + _GAMMA)
    return out


def key(*parts: int | str) -> int:
    """One key from numbers and names."""
    return int(mix(0, *parts))


def torch_seed(*parts: int | str) -> int:
    """A seed for `torch.manual_seed`: dropout of one micro-batch is keyed by it."""
    return key(*parts) & 0x7FFF_FFFF_FFFF_FFFF


def uniform(keys: np.ndarray, *shape: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float32 [len(keys), *shape]."""
    keys = np.atleast_1d(keys)
    n = int(np.prod(shape, dtype=np.int64)) if shape else 1
    with np.errstate(over="ignore"):
        counters = keys[:, None] + np.arange(1, n + 1, dtype=np.uint64) * _GAMMA
    bits = _hash(counters) >> np.uint64(40)  # 24 bits: exact in float32
    return (bits.astype(np.float32) * np.float32(2**-24)).reshape(len(keys), *shape)


def normal(keys: np.ndarray, *shape: int) -> np.ndarray:
    """Standard normal numbers, float32 [len(keys), *shape] (Box and Muller 1958)."""
    n = int(np.prod(shape, dtype=np.int64)) if shape else 1
    half = (n + 1) // 2
    u = uniform(keys, 2, half)
    radius = np.sqrt(-2.0 * np.log1p(-u[:, 0]))
    angle = np.float32(2 * np.pi) * u[:, 1]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both[:, :n].astype(np.float32, copy=False).reshape(len(u), *shape)


def integers(keys: np.ndarray, high: int | np.ndarray, *shape: int) -> np.ndarray:
    """Integers in [0, high), int64 [len(keys), *shape]; `high` may be one number or one a key."""
    u = uniform(keys, *shape).astype(np.float64)
    high = np.asarray(high).reshape(-1, *([1] * len(shape))) if np.ndim(high) else high
    return np.minimum((u * high).astype(np.int64), np.asarray(high) - 1)


def permuted(seed_key: int, index: np.ndarray, n: int) -> np.ndarray:
    """Where a permutation of range(n) takes these numbers, int64 [k]: without a list of all n, of whatever n.

    A Feistel network (Luby and Rackoff 1988) permutes the numbers below the next power of four; what it takes to n or
    beyond is taken on until it is below (cycle walking, Black and Rogaway 2002): fewer than four times on average.
    """
    half = np.uint64(max(1, -(-max(1, n - 1).bit_length() // 2)))  # bits
    mask = np.uint64((1 << int(half)) - 1)
    round_keys = mix(seed_key, "round", np.arange(_ROUNDS))
    out = np.asarray(index).astype(np.uint64)
    left = np.arange(len(out))
    while len(left):
        high, low = out[left] >> half, out[left] & mask
        with np.errstate(over="ignore"):
            for round_key in round_keys:
                high, low = low, high ^ (_hash(low * _GAMMA + round_key) & mask)
        out[left] = (high << half) | low
        left = left[out[left] >= n]
    return out.astype(np.int64)


def permutation(seed_key: int, n: int) -> np.ndarray:
    """A permutation of range(n), int64 [n]: another than that of `permuted`."""
    return np.argsort(np.concatenate([_scores(seed_key, span) for span in spans(n)] or [np.zeros(0, np.uint64)]))


def some_of(seed_key: int, n: int, most: int) -> np.ndarray:
    """The numbers that `permutation` has first, int64 [most] and increasing, without a list of all."""
    chosen, scores = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    for span in spans(n):
        chosen = np.concatenate([chosen, np.arange(span.start, span.stop)])
        scores = np.concatenate([scores, _scores(seed_key, span)])
        if len(scores) > most:
            least = np.argpartition(scores, most)[:most]
            chosen, scores = chosen[least], scores[least]
    return np.sort(chosen)


def _scores(seed_key: int, span: slice) -> np.ndarray:
    """By which the numbers of a span are put in order, uint64; no two are equal."""
    with np.errstate(over="ignore"):
        return _hash(np.uint64(seed_key) + np.arange(span.start + 1, span.stop + 1, dtype=np.uint64) * _GAMMA)
