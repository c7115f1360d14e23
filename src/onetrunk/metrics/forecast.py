"""Measures of forecasts. n rows, H points, C channels; points whose truth is missing (NaN) do not count."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onetrunk.core.metric import Metric

FORECAST = (
    Metric("mse", False),
    Metric("mae", False),
    Metric("mase", False),
    Metric("coverage", True),
    Metric("crps", False),
)


def squared(true: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Each row's mean squared error, float64 [n]."""
    return _by_row((true - forecast) ** 2)


def absolute(true: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Each row's mean absolute error, float64 [n]."""
    return _by_row(np.abs(true - forecast))


def crps(true: np.ndarray, quantiles: Mapping[float, np.ndarray]) -> np.ndarray:
    """Each row's continuous ranked probability score, as the mean of twice the pinball loss over the levels.

    It is in the unit of the values; of a forecast without spread it is the absolute error (Gneiting and Raftery 2007).
    """
    losses = [
        2 * np.where(true >= forecast, level * (true - forecast), (1 - level) * (forecast - true))
        for level, forecast in quantiles.items()
    ]
    return _by_row(np.where(np.isnan(true), np.nan, np.mean(losses, axis=0)))


def coverage(true: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of points within their interval."""
    there = np.isfinite(true)
    return float(((low <= true) & (true <= high))[there].mean())


def _by_row(errors: np.ndarray) -> np.ndarray:
    return np.nanmean(errors.reshape(len(errors), -1), axis=1)
