"""Simple forecasts: the last season again, a linear map."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from onetrunk.columns.series.channels import norm
from onetrunk.columns.series.linear import ridge


class _Forecast(BaseEstimator):
    """From features whose last columns are histories [n, C * L] (oldest first) to forecasts [n, H * C]."""

    def __init__(self, channels: int, length: int, horizon: int, period: int) -> None:
        self.channels, self.length, self.horizon, self.period = channels, length, horizon, period

    def fit(self, x: np.ndarray, y: np.ndarray) -> _Forecast:
        return self

    def histories(self, x: np.ndarray) -> np.ndarray:
        """[n * C, L]"""
        return np.asarray(x[:, -self.channels * self.length :], dtype=np.float64).reshape(-1, self.length)

    def written(self, forecast: np.ndarray) -> np.ndarray:
        """[n * C, H] to [n, H * C]."""
        shaped = forecast.reshape(-1, self.channels, self.horizon).transpose(0, 2, 1)
        return shaped.reshape(len(shaped), -1)


class SeasonalNaive(_Forecast):
    """The last season again; with a season of 1, the last value."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        period = min(self.period, self.length)
        last = self.histories(x)[:, -period:]
        return self.written(last[:, np.arange(self.horizon) % period])


class Linear(_Forecast):
    """Every point a linear map of the history, one for all channels: as DLinear (arXiv 2205.13504), by ridge regression
    on histories and futures that the history's mean and deviation norm."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Linear:
        past, centre, scale = self._normed(x)
        future = y.reshape(-1, self.horizon, self.channels).transpose(0, 2, 1).reshape(-1, self.horizon)
        good = np.isfinite(future).all(1)
        past, future = past[good], ((future - centre) / scale)[good]
        self.weights_ = ridge(past, future, self.period)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        past, centre, scale = self._normed(x)
        return self.written(past @ self.weights_ * scale + centre)

    def _normed(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        past = self.histories(x)
        centre, scale = (each.T for each in norm(past[None]))
        return (past - centre) / scale, centre, scale
