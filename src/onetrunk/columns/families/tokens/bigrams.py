"""Bigrams: a token and the one before it, as one number; the frequent ones have vectors of their own."""

from __future__ import annotations

import numpy as np

from onetrunk.core.content import local_positions


def bigram_code(before: np.ndarray, token: np.ndarray) -> np.ndarray:
    """One number a bigram, int64; `before` is -1 where there is none. It stays the same as the vocabulary grows."""
    return ((before.astype(np.int64) + 1) << 32) + token


def bigram_codes(ids: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Codes of each token [n] with the one before it in its text."""
    return bigram_code(np.where(local_positions(lens) > 0, np.roll(ids, 1), -1), ids)


def frequent_bigrams(ids: np.ndarray, lens: np.ndarray, max_count: int, min_occurrences: int) -> np.ndarray:
    """Codes of the most frequent bigrams of texts, increasing."""
    codes, counts = np.unique(bigram_codes(ids, lens), return_counts=True)
    often = counts >= min_occurrences
    codes, counts = codes[often], counts[often]
    return np.sort(codes[np.argsort(-counts, kind="stable")[:max_count]])


def bigram_rows(known: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Rows of codes in the table of bigrams: 0 for what is not among the `known` codes (increasing), else 1 + index."""
    index = np.searchsorted(known, codes)
    return np.where(np.append(known, -1)[index] == codes, index + 1, 0)
