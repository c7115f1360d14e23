"""Shows a series to a person: as bars, as a plot, in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.series.channels import read
from onetrunk.core.errors import BadValueError

_BARS = "▁▂▃▄▅▆▇█"
_MAX_BARS, _MAX_LINES = 40, 3
_SAMPLE = 500  # values that are summed up


def bars(value: Any) -> str:
    """A value for a person: each channel as a line of bars, with its ends."""
    try:
        names, x = read(value)
    except BadValueError:
        return str(value)
    lines = [_line(x[:, c]) for c in range(min(_MAX_LINES, x.shape[1]))]
    return "\n".join(lines if names is None else [f"{name}: {line}" for name, line in zip(names, lines, strict=False)])


def _line(x: np.ndarray) -> str:
    count, x = len(x), x[:: max(1, -(-len(x) // _MAX_BARS))]
    if np.isnan(x).all():
        return f"{count:,} points, none there"
    low, high = np.nanmin(x), np.nanmax(x)
    level = np.nan_to_num((x - low) / max(high - low, 1e-300) * (len(_BARS) - 1)).round().astype(int)
    drawn = "".join(" " if np.isnan(v) else _BARS[i] for v, i in zip(x, level, strict=True))
    return f"{drawn} {low:.4g} to {high:.4g}, {count:,} points"


def plot(axes: Any, past: np.ndarray | None, true: np.ndarray, answered: np.ndarray, *ends: np.ndarray) -> None:
    """History [t], what came and what was answered [H], and the ends of an interval, where there is one."""
    ahead = np.arange(1, len(true) + 1)
    if past is not None:
        axes.plot(np.arange(1 - len(past), 1), past, color="grey", label="history")
    axes.plot(ahead, true, color="black", label="true")
    axes.plot(ahead, answered, label="answered")
    if ends:
        axes.fill_between(ahead, *ends, alpha=0.25, label="90 % interval")
    axes.set_xlabel("points ahead")
    axes.legend(frameon=False)


def summary(values: Sequence[Any]) -> dict[str, Any]:
    """What a person would know of some values."""
    usable = []
    for value in values[:: max(1, len(values) // _SAMPLE)]:
        try:
            usable.append(read(value))
        except BadValueError:
            continue
    if not usable:
        return {"usable": 0}
    lengths = np.array([len(x) for _, x in usable])
    points = np.concatenate([x.ravel() for _, x in usable])
    return {
        "points": {"shortest": int(lengths.min()), "median": float(np.median(lengths)), "longest": int(lengths.max())},
        "channels": usable[0][0] or usable[0][1].shape[1],
        "min": float(np.nanmin(points)),
        "mean": float(np.nanmean(points)),
        "max": float(np.nanmax(points)),
        "missing points": int(np.isnan(points).sum()),
    }
