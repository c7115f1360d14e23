"""What simple models see of pictures, films and sounds: some hundred numbers. NumPy only."""

from __future__ import annotations

import numpy as np

_CELLS, _BINS, _EDGE_CELLS, _DIRECTIONS = 8, 16, 4, 9


def sketch_of_picture(x: np.ndarray) -> np.ndarray:
    """Of a picture [C, H, W], 0 to 1: cells of a thumbnail, a histogram of each channel, directions of edges; under
    1,000."""
    cells = min(_CELLS, x.shape[1], x.shape[2])
    thumbnail = cell_means(cell_means(x, cells, axis=1), cells, axis=2)
    bins = np.minimum((x * _BINS).astype(np.int64), _BINS - 1)
    shades = np.stack([np.bincount(b.ravel(), minlength=_BINS) for b in bins]) / bins[0].size
    return np.concatenate([thumbnail.ravel(), shades.ravel(), _edges(x.mean(0))])


def _edges(grey: np.ndarray) -> np.ndarray:
    """How strong edges of each direction are in each part of a grey picture (Dalal and Triggs 2005), length 1."""
    down, right = np.gradient(grey)
    strength, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
    direction = (angle / np.pi * _DIRECTIONS).astype(np.int64) % _DIRECTIONS
    each = np.where(direction == np.arange(_DIRECTIONS)[:, None, None], strength, 0.0)
    cells = min(_EDGE_CELLS, *grey.shape)
    parts = cell_means(cell_means(each, cells, axis=1), cells, axis=2).ravel()
    return parts / max(float(np.sqrt((parts**2).sum())), 1e-6)


def stretched(mel: np.ndarray, frames: int) -> np.ndarray:
    """A spectrogram [t, bands] in another number of frames, which are means where it becomes shorter."""
    t = len(mel)
    if frames < t:
        return cell_means(mel, frames, axis=0)
    at = np.clip((np.arange(frames) + 0.5) * t / frames - 0.5, 0, t - 1)
    before = at.astype(np.int64)
    rest = (at - before)[:, None]
    return mel[before] * (1 - rest) + mel[np.minimum(before + 1, t - 1)] * rest


def cell_means(x: np.ndarray, cells: int, axis: int) -> np.ndarray:
    """Means of `cells` neighbouring stretches of an axis, that share a place where it does not divide evenly."""
    n = x.shape[axis]
    first = np.arange(cells) * n // cells
    last = -(-(np.arange(1, cells + 1) * n) // cells)
    stretches = [x.take(range(a, b), axis=axis).mean(axis) for a, b in zip(first, last, strict=True)]
    return np.stack(stretches, axis=axis)
