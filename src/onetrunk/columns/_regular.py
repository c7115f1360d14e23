"""What is true of numbers at regular times: reading them, their season, their scale; and the simple forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from onetrunk.core.errors import BadValueError, DataError

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 40
_FLOOR = 0.01  # of the scale that a history is normed by, in the unit of its values
_LONGEST_SEASON = 400
_LOOKED_AT = 20  # values among which a season is sought


def read(value: Any) -> tuple[list[str] | None, np.ndarray]:
    """Names of the channels, if they have any, and their values float64 [T, C], NaN where missing.

    Raises BadValueError for what is no series of finite numbers, or has none.
    """
    names = None
    if isinstance(value, dict):
        names = [str(name) for name in value]
        columns = [_floats(v) for v in value.values()]
        if not columns or any(c.ndim != 1 or len(c) != len(columns[0]) for c in columns):
            raise BadValueError("expected channels of one length, by name")
        x = np.stack(columns, axis=1)
    else:
        x = _floats(value)
        x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not x.size:
        raise BadValueError(f"expected numbers [T] or [T, channels], found shape {list(np.shape(x))}")
    if np.isinf(x).any():
        raise BadValueError("an infinite value is no number to go on from")
    if np.isnan(x).all():
        raise BadValueError("every point is missing")
    return names, x


def _floats(value: Any) -> np.ndarray:
    if not isinstance(value, list | tuple | np.ndarray):
        raise BadValueError(f"expected a series of numbers, found {value!r} ({type(value).__name__})")
    try:
        found = np.asarray(value)
        if found.dtype == object:  # None is NaN, as it is in no other conversion
            found = found.astype(np.float64)
    except (TypeError, ValueError):
        raise BadValueError("expected numbers, all channels equally long") from None
    if found.dtype.kind not in "iuf":
        raise BadValueError(f"expected numbers, found {found.ravel()[0]!r}" if found.size else "the series is empty")
    return found.astype(np.float64)


@dataclass
class Channels:
    """What the training values say of a column's channels. Centre and scale are in own units; `naive` is the mean
    absolute error of last season's value, in standard deviations: the unit of MASE."""

    names: list[str] | None
    centre: list[float]
    scale: list[float]
    longest: int  # points
    period: int  # points of a season; 1: there is none
    naive: float

    @classmethod
    def fit(cls, values: Sequence[Any], period: int | None) -> Self:
        """Raises DataError where no value is usable."""
        found, reason = [], "no values"
        for value in values:
            try:
                found.append(read(value))
            except BadValueError as error:
                reason = str(error)
        if not found:
            raise DataError(f"A series column needs at least one usable value in the training rows: {reason}.")
        count = max(x.shape[1] for _, x in found)
        names = next((names for names, x in found if names and x.shape[1] == count), None)
        arrays = [x for _, x in found if x.shape[1] == count]
        there = np.maximum(sum(np.isfinite(x).sum(0) for x in arrays), 1)
        centre = sum(np.nansum(x, 0) for x in arrays) / there
        scale = np.sqrt(sum(np.nansum((x - centre) ** 2, 0) for x in arrays) / there)
        scale = np.where(scale > 0, scale, 1.0)
        period = period or season(arrays)
        apart = [np.abs((x[period:] - x[:-period]) / scale) for x in arrays]
        total, points = sum(np.nansum(d) for d in apart), sum(np.isfinite(d).sum() for d in apart)
        naive = float(total / points) if total > 0 else 1.0
        return cls(names, centre.tolist(), scale.tolist(), max(map(len, arrays)), period, naive)

    def __len__(self) -> int:
        return len(self.scale)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def scaled(self, value: Any) -> np.ndarray:
        """A value in standard deviations, float64 [T, C]. Raises BadValueError, also for other channels."""
        names, x = read(value)
        if x.shape[1] != len(self) or (self.names and names and set(names) != set(self.names)):
            raise BadValueError(
                f"expected {len(self)} channel{'s' * (len(self) > 1)}"
                f"{' (' + ', '.join(self.names) + ')' if self.names else ''}, found "
                f"{', '.join(names) if names else x.shape[1]}"
            )
        if self.names and names and names != self.names:
            x = x[:, [names.index(name) for name in self.names]]
        return (x - self.centre) / self.scale

    def own(self, x: np.ndarray) -> np.ndarray:
        """Standard deviations [..., C] in the column's own units."""
        return x * np.array(self.scale) + self.centre

    def written(self, x: np.ndarray) -> Any:
        """Own units [T, C] as values of the column are written."""
        if self.names:
            return {name: x[:, c].tolist() for c, name in enumerate(self.names)}
        return x[:, 0].tolist() if len(self) == 1 else x.tolist()

    def first(self, values: Sequence[Any], points: int) -> np.ndarray:
        """The first points of each value, NaN after its end, in standard deviations: float64 [n, points, C]."""
        out = np.full((len(values), points, len(self)), np.nan)
        for i, value in enumerate(values):
            x = self.scaled(value)[:points]
            out[i, : len(x)] = x
        return out

    def last(self, values: Sequence[Any], points: int) -> np.ndarray:
        """The last points of each value, in own units, filled where missing: float64 [n, C * points]."""
        out = np.zeros((len(values), len(self), points))
        for i, value in enumerate(values):
            try:
                x = filled(self.own(self.scaled(value)))
            except BadValueError:
                continue
            out[i] = np.pad(x, ((points, 0), (0, 0)), "edge")[-points:].T
        return out.reshape(len(values), -1)


def filled(x: np.ndarray) -> np.ndarray:
    """[T, C] where a missing point is the one before it, or the first that is there; 0 where none is."""
    there = np.isfinite(x)
    last = np.maximum.accumulate(np.where(there, np.arange(len(x))[:, None], -1), axis=0)
    last = np.where(last < 0, there.argmax(0), last)
    return np.nan_to_num(np.take_along_axis(x, last, axis=0))


def bars(x: np.ndarray) -> str:
    """A line of bars, the lowest and the highest value, and how many there are."""
    count = len(x)
    x = x[:: max(1, -(-count // _MOST_BARS))]
    low, high = np.nanmin(x), np.nanmax(x)
    place = np.nan_to_num((x - low) / max(high - low, 1e-300) * (len(_BARS) - 1)).round().astype(int)
    drawn = "".join(" " if np.isnan(v) else _BARS[i] for v, i in zip(x, place, strict=True))
    return f"{drawn} {low:.4g} to {high:.4g}, {count:,} points"


def norm(past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [m, C] of what is there of `past` [m, C, L]; 0 and 1 where nothing is."""
    there = np.isfinite(past)
    count = there.sum(-1)
    filled = np.where(there, past, 0)
    centre = filled.sum(-1) / np.maximum(count, 1)
    spread = (np.where(there, past - centre[..., None], 0) ** 2).sum(-1) / np.maximum(count, 1)
    return centre, np.where(count > 0, np.sqrt(spread + _FLOOR**2), 1.0)


def season(found: Sequence[np.ndarray]) -> int:
    """The lag at which changes from point to point repeat best, or 1 where none does clearly."""
    found = found[:: max(1, len(found) // _LOOKED_AT)][:_LOOKED_AT]
    most = min(_LONGEST_SEASON, max(map(len, found)) // 2)
    products, squares, count = np.zeros(most + 1), 0.0, 0
    for x in found:
        changes = np.diff(x, axis=0)
        changes = np.nan_to_num(changes - np.nanmean(changes, axis=0) if len(changes) else changes)
        deviation = changes.std(0)
        changes = (changes / np.where(deviation > 0, deviation, 1))[:, deviation > 0]
        squares, count = squares + (changes**2).sum(), count + changes.size
        for lag in range(1, min(most, len(changes) - 1) + 1):
            products[lag] += (changes[lag:] * changes[:-lag]).sum() * len(changes) / (len(changes) - lag)
    if not squares or most < 3:
        return 1
    alike = products / squares
    peaks = [k for k in range(2, most) if alike[k - 1] < alike[k] >= alike[k + 1]]
    best = max(peaks, key=lambda k: alike[k], default=1)
    return best if best > 1 and alike[best] > max(0.1, 4 / count**0.5) else 1


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
        inner = past.T @ past + np.eye(past.shape[1])
        self.weights_ = np.linalg.solve(inner, past.T @ future)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        past, centre, scale = self._normed(x)
        return self.written(past @ self.weights_ * scale + centre)

    def _normed(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        past = self.histories(x)
        centre, scale = (found.T for found in norm(past[None]))
        return (past - centre) / scale, centre, scale
