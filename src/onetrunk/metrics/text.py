"""Written answers against the true ones, and likelihoods of text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from onetrunk.core.metric import Metric

WRITTEN = (
    Metric("exact_match", True),
    Metric("character_error_rate", False),
    Metric("word_error_rate", False),
)
LIKELIHOOD = (Metric("bits_per_byte", False, "bits"), Metric("perplexity", False), Metric("loss", False, "nats"))


def exact_match(truths: Sequence[str], predicted: Sequence[str]) -> float | None:
    """The share written exactly right."""
    if not len(truths):
        return None
    return float(np.mean([str(t) == str(p) for t, p in zip(truths, predicted, strict=True)]))


def character_error_rate(truths: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Edits (insert, delete, replace) a true character, of all rows together; may exceed 1."""
    total = sum(len(str(t)) for t in truths)
    if not total:
        return None
    return sum(edit_distance(str(t), str(p)) for t, p in zip(truths, predicted, strict=True)) / total


def word_error_rate(truths: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Edits (insert, delete, replace) a true word, of all rows together; may exceed 1. Words stand between spaces."""
    words = [(str(t).split(), str(p).split()) for t, p in zip(truths, predicted, strict=True)]
    total = sum(len(t) for t, _ in words)
    if not total:
        return None
    return sum(edit_distance(t, p) for t, p in words) / total


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """The fewest insertions, deletions and replacements that turn `a` into `b` (Levenshtein 1966): of characters, or of
    the words of lists.

    One row of the table at a time; the running minimum carries insertions along the row.
    """
    if len(a) < len(b):
        a, b = b, a
    code = {token: i for i, token in enumerate(dict.fromkeys(b))}
    codes = np.array([code[token] for token in b], dtype=np.int64)
    steps = np.arange(len(b) + 1)
    row = steps
    for i, token in enumerate(a, start=1):
        best = np.concatenate([[i], np.minimum(row[1:] + 1, row[:-1] + (codes != code.get(token, -1)))])
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


def likelihood(logprob: float, tokens: int, n_bytes: int) -> dict[str, float | None]:
    """Perplexity a token and bits a byte, from the natural log of the probability of all of it."""
    return {
        "perplexity": math.exp(-logprob / tokens) if tokens else None,
        "bits_per_byte": -logprob / math.log(2) / n_bytes if n_bytes else None,
    }


def ngram_nats(train: Iterable[str], truths: Sequence[str], order: int) -> np.ndarray:
    """Nats of each text, its end included, by a model of runs of `order` bytes: float64 [n].

    Counts of each context are mixed with those of the next shorter one (Witten and Bell 1991), at last with all bytes
    and the end alike.
    """
    runs: Counter[tuple[int, ...]] = Counter()  # of 1 to `order` bytes
    after: Counter[tuple[int, ...]] = Counter()  # how often something follows a context
    kinds: Counter[tuple[int, ...]] = Counter()  # how many different bytes follow it
    for text in train:
        line = _ended(text)
        for n in range(order):
            runs.update(line[i - n : i + 1] for i in range(n, len(line)))
    for run, count in runs.items():
        after[run[:-1]] += count
        kinds[run[:-1]] += 1

    def nats(text: str) -> float:
        line, total = _ended(text), 0.0
        for i in range(len(line)):
            p = 1 / 257
            for n in range(min(order, i + 1)):
                context = line[i - n : i]
                if not after[context]:
                    break
                p = (runs[line[i - n : i + 1]] + kinds[context] * p) / (after[context] + kinds[context])
            total -= math.log(p)
        return total

    return np.array([nats(text) for text in truths])


def _ended(text: str) -> tuple[int, ...]:
    return (*str(text).encode("utf-8", "replace"), 256)
