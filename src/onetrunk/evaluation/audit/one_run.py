"""A lower bound on the epsilon of one training run, without repeating it (Steinke, Nasr and Jagielski, arXiv
2305.08846).

Many canaries are rows like no other; a coin decides of each by itself whether training sees it. Afterwards somebody
guesses, of those with the highest and the lowest scores, who was in. Under (epsilon, delta)-differential privacy the
number of right guesses is at most that of coins which show heads with probability e^epsilon / (1 + e^epsilon), but for
delta. Who guesses better than that has shown that epsilon is larger.
"""

from __future__ import annotations

import math

import numpy as np

from onetrunk.core import rng
from onetrunk.core.errors import UsageError
from onetrunk.evaluation.audit.record import OneRun

CONFIDENCE = 0.95
_GUESSED = (1.0, 0.5, 0.25, 0.1, 0.05)  # shares of the canaries that are guessed; the confidence is shared among them
_FEWEST = 10
_HIGHEST = 60.0  # of epsilon: beyond, nothing is told apart


def coin_flips(count: int, seed: int = 0) -> np.ndarray:
    """Which of so many canaries to plant, bool [count]: each with probability 1/2, whatever becomes of the others."""
    return rng.uniform(rng.mix(rng.key(seed, "planted"), np.arange(count))).reshape(-1) < 0.5


def one_run_bound(scores: np.ndarray, planted: np.ndarray, delta: float, confidence: float = CONFIDENCE) -> OneRun:
    """The bound of canaries with these scores (higher where training seems to have seen one), and which of them were
    planted. It holds with this confidence. Raises UsageError where there are too few."""
    m = len(scores)
    if m < _FEWEST or planted.all() or not planted.any():
        raise UsageError(
            f"A bound on epsilon expects {_FEWEST} canaries or more, of which a coin has left out about half; found "
            f"{m:,}, of which {int(planted.sum()):,} were planted."
        )
    order = np.argsort(scores, kind="stable")
    best = OneRun(0.0, m, 0, 0, delta, confidence)
    for share in _GUESSED:
        half = max(1, round(share * m / 2))
        right = int(planted[order[-half:]].sum() + (~planted[order[:half]]).sum())
        bound = _bound(m, 2 * half, right, delta, (1 - confidence) / len(_GUESSED))
        if bound > best.epsilon or not best.guesses:
            best = OneRun(bound, m, 2 * half, right, delta, confidence)
    return best


def _bound(m: int, guesses: int, right: int, delta: float, p: float) -> float:
    """The largest epsilon that so many right guesses rule out at level p; 0 where they rule out none."""
    if p_value(m, guesses, right, 0.0, delta) >= p:
        return 0.0
    low, high = 0.0, _HIGHEST
    for _ in range(50):
        middle = (low + high) / 2
        if p_value(m, guesses, right, middle, delta) < p:
            low = middle
        else:
            high = middle
    return low


def p_value(m: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """How likely so many right guesses (or more) are at most, of m canaries, where training is (epsilon, delta)-
    differentially private (theorem 5.2 of the paper)."""
    from scipy import stats

    heads = 1 / (1 + math.exp(-epsilon))
    likely = float(stats.binom.sf(right - 1, guesses, heads))
    below = np.cumsum(stats.binom.pmf(right - np.arange(1, right + 1), guesses, heads))
    more = float((below / np.arange(1, right + 1)).max(initial=0.0))
    return min(1.0, likely + 2 * m * delta * more)
