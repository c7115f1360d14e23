"""Numbers at regular times: how they are written, what their channels are, their scale and their season."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from onetrunk.core.errors import BadValueError, DataError

_FLOOR = 0.01  # of the scale that a history is normed by, as a share of its size
_MAX_SEASON = 400
_MIN_ALIKE, _AS_ALIKE = 0.1, 0.9  # correlation of a season with the next, and share of the best
_SAMPLE = 20  # values among which a season is sought


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
    if not x.size:
        raise BadValueError("the series is empty")
    if x.ndim != 2:
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
        numbers = np.asarray(value)
        if numbers.dtype == object:  # None is NaN, as it is in no other conversion
            numbers = numbers.astype(np.float64)
    except (TypeError, ValueError):
        raise BadValueError("expected numbers, all channels equally long") from None
    if numbers.dtype.kind not in "iuf":
        raise BadValueError(f"expected numbers, found {numbers.ravel()[0]!r}")
    return numbers.astype(np.float64)


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
        arrays: list[np.ndarray] = []
        names, reason = None, "no values"
        for value in values:
            try:
                own, x = read(value)
                if not arrays:
                    names = own
                arrays.append(_in_order(names, x.shape[1] if not arrays else arrays[0].shape[1], own, x))
            except BadValueError as error:
                reason = str(error)
        if not arrays:
            raise DataError(f"A series column needs at least one usable value in the training rows: {reason}.")
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
        return (_in_order(self.names, len(self), *read(value)) - self.centre) / self.scale

    def own(self, x: np.ndarray) -> np.ndarray:
        """Standard deviations [..., C] in the column's own units."""
        return x * np.array(self.scale) + self.centre

    def norm(self, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [m, C] of what is there of `past` [m, C, L], in the column's own.

        The smallest is a share of the column's, and less of a history that is smaller than the column's values are:
        series of many sizes are each normed by their own. 0 and 1 where nothing is there."""
        centre, scale = np.array(self.centre), np.array(self.scale)
        size = _size(past * scale[:, None] + centre[:, None])
        floor = _FLOOR * np.minimum(1, size / np.hypot(centre, scale))
        return norm(past, floor, nothing=_FLOOR)

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


def _in_order(expected: list[str] | None, count: int, names: list[str] | None, x: np.ndarray) -> np.ndarray:
    """Channels [T, C] in the column's order. Raises BadValueError for others."""
    if x.shape[1] != count or (expected and names and set(names) != set(expected)):
        raise BadValueError(
            f"expected {count} channel{'s' * (count > 1)}{' (' + ', '.join(expected) + ')' if expected else ''}, "
            f"found {', '.join(names) if names else x.shape[1]}"
        )
    return x[:, [names.index(name) for name in expected]] if expected and names else x


def filled(x: np.ndarray) -> np.ndarray:
    """[T, C] where a missing point is the one before it, or the first that is there; 0 where none is."""
    there = np.isfinite(x)
    last = np.maximum.accumulate(np.where(there, np.arange(len(x))[:, None], -1), axis=0)
    last = np.where(last < 0, there.argmax(0), last)
    return np.nan_to_num(np.take_along_axis(x, last, axis=0))


def _size(x: np.ndarray) -> np.ndarray:
    """The root of the mean square [...] of what is there of x [..., L]; 0 where nothing is."""
    there = np.isfinite(x)
    return np.sqrt((np.where(there, x, 0) ** 2).sum(-1) / np.maximum(there.sum(-1), 1))


def norm(past: np.ndarray, floor: np.ndarray | None = None, nothing: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [m, C] of what is there of `past` [m, C, L]; 0 and 1 where nothing is.

    Deviations are at least about `floor` [m, C] (by default a share of the history's size), and `nothing` where it and
    the floor are 0: where a history is 0 all the time.
    """
    floor = _FLOOR * _size(past) if floor is None else floor
    there = np.isfinite(past)
    count = there.sum(-1)
    filled = np.where(there, past, 0)
    centre = filled.sum(-1) / np.maximum(count, 1)
    spread = (np.where(there, past - centre[..., None], 0) ** 2).sum(-1) / np.maximum(count, 1)
    scale = np.sqrt(spread + floor**2)
    return centre, np.where(count > 0, np.where(scale > 0, scale, nothing), 1.0)


def season(arrays: Sequence[np.ndarray]) -> int:
    """The lag at which changes from point to point repeat best, or 1 where none does clearly."""
    arrays = arrays[:: max(1, len(arrays) // _SAMPLE)][:_SAMPLE]
    max_lag = min(_MAX_SEASON, max(map(len, arrays)) // 2)
    products, squares, count = np.zeros(max_lag + 1), 0.0, 0
    for x in arrays:
        changes = np.diff(x, axis=0)
        there = np.isfinite(changes)
        changes = np.where(there, changes, 0)
        changes = np.where(there, changes - changes.sum(0) / np.maximum(there.sum(0), 1), 0)
        if not len(changes):
            continue
        deviation = changes.std(0)
        changes = (changes / np.where(deviation > 0, deviation, 1))[:, deviation > 0]
        squares, count = squares + (changes**2).sum(), count + changes.size
        for lag in range(1, min(max_lag, len(changes) - 1) + 1):
            products[lag] += (changes[lag:] * changes[:-lag]).sum() * len(changes) / (len(changes) - lag)
    if not squares or max_lag < 3:
        return 1
    alike = products / squares
    peaks = [k for k in range(2, max_lag) if alike[k - 1] < alike[k] >= alike[k + 1]]
    highest = max((alike[k] for k in peaks), default=0.0)
    if highest <= max(_MIN_ALIKE, 4 / count**0.5):
        return 1
    return next(k for k in peaks if alike[k] > _AS_ALIKE * highest)  # twice a season repeats as well
