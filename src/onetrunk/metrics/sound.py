"""Spectrograms against the true ones: how differently they sound, in decibels, wherever in time."""

from __future__ import annotations

import math

import numpy as np

from onetrunk.core.metric import Metric

SPOKEN = (
    Metric("mel_cepstral_distortion", False, "dB"),
    Metric("log_spectral_distance", False, "dB"),
    Metric("length_error", False, "seconds"),
)

_CEPSTRA = 13  # coefficients 1 to 13: the shape of the spectrum; 0 would be its loudness
_DECIBELS = 10 / math.log(10)  # in one natural logarithm of power


def mel_cepstral_distortion(truth: np.ndarray, answer: np.ndarray) -> float:
    """Decibels (Kubichek 1993) between log-mel spectrograms [t, bands] (natural logarithms of power), aligned in time.

    Loudness does not count.
    """
    a, b = (_cepstra(x) for x in (truth, answer))
    return aligned_mean(_distances(a, b)) * _DECIBELS * math.sqrt(2)


def log_spectral_distance(truth: np.ndarray, answer: np.ndarray) -> float:
    """Root mean square difference in decibels of bands (Gray and Markel 1976), mean over aligned frames."""
    return aligned_mean(_distances(truth, answer)) * _DECIBELS / math.sqrt(truth.shape[1])


def _cepstra(log_mel: np.ndarray) -> np.ndarray:
    """The discrete cosine transform of log magnitudes, so scaled that it is the cepstrum: [t, 13]."""
    bands = log_mel.shape[1]
    k, n = np.arange(1, _CEPSTRA + 1)[:, None], np.arange(bands) + 0.5
    return (log_mel.astype(np.float64) / 2) @ (np.cos(np.pi * k * n / bands) / bands).T


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean, of each frame of one to each of the other: [t, u]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(square, 0))


def aligned_mean(cost: np.ndarray) -> float:
    """Mean cost [t, u] along the path from first to last with the least sum (dynamic time warping, Sakoe and Chiba
    1978); of equal ones the shortest. Diagonal after diagonal, all cells of one at once."""
    t, u = cost.shape
    total, steps = np.full((t + 1, u + 1), np.inf), np.zeros((t + 1, u + 1))
    total[0, 0] = 0
    for diagonal in range(2, t + u + 1):
        i = np.arange(max(1, diagonal - u), min(t, diagonal - 1) + 1)
        j = diagonal - i
        before = np.stack([total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]])
        taken = np.stack([steps[i - 1, j - 1], steps[i - 1, j], steps[i, j - 1]])
        best = before.argmin(0)
        each = np.arange(len(i))
        total[i, j] = before[best, each] + cost[i - 1, j - 1]
        steps[i, j] = taken[best, each] + 1
    return float(total[t, u] / steps[t, u])
