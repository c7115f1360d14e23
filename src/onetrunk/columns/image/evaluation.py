"""How drawn pictures are judged: by their pixels, by how far they are from copies of training pictures, and by how
much they differ from each other. What simple models see of a picture: a thumbnail, colours, edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.patches.evaluation import PatchEvaluation, cell_means
from onetrunk.columns.image.encoder import ImageEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Drawn
from onetrunk.media.image import open_image, resize, sheet
from onetrunk.metrics.images import nearest

_ACROSS = 10  # pictures in a row of a figure
_CELLS, _BINS, _EDGE_CELLS, _DIRECTIONS = 8, 16, 4, 9  # of what a simple model sees


class ImageEvaluation(PatchEvaluation[ImageEncoder], Drawn):
    mean_name = "mean image"

    def novelty(
        self, answers: Sequence[Answer], truths: Sequence[Any], known: Sequence[Any]
    ) -> dict[str, float | None]:
        """Root mean squared differences of thumbnails, 0 to 1, medians. `spread` is that of two drawn ones: less than
        that of two true ones where the same is drawn again and again."""
        training, drawn, true = (
            np.stack([*map(_thumbnail, values)]) for values in (known, [a.value for a in answers], truths)
        )
        compared = {"nearest_known": drawn, "nearest_known_of_true": true}
        side = training[0].size ** 0.5
        away = {name: float(np.median(nearest(x, training)[0])) / side for name, x in compared.items()}
        return {**away, "spread": _spread(drawn), "spread_of_true": _spread(true)}

    def sketch(self, pixels: np.ndarray) -> np.ndarray:
        """Of pixels [C, H, W]: cells of a thumbnail, a histogram of each channel, directions of edges; under 1,000."""
        x = pixels.reshape(self.encoder.grid.shape) / 255.0
        cells = min(_CELLS, x.shape[1], x.shape[2])
        thumbnail = cell_means(cell_means(x, cells, axis=1), cells, axis=2)
        bins = np.minimum((x * _BINS).astype(np.int64), _BINS - 1)
        shades = np.stack([np.bincount(b.ravel(), minlength=_BINS) for b in bins]) / bins[0].size
        return np.concatenate([thumbnail.ravel(), shades.ravel(), _edges(x.mean(0))])

    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """Answers, each above what is true."""
        n = min(len(answers), 2 * _ACROSS)
        drawn = [self._inside(a.value) for a in answers[:n]]
        true = [self._inside(t) for t in truths[:n]]
        rows = [row for i in range(0, n, _ACROSS) for row in (drawn[i : i + _ACROSS], true[i : i + _ACROSS])]
        axes.imshow(sheet(rows), cmap="gray", vmin=0, vmax=255)
        side = self.encoder.size + 1
        axes.set_yticks([(i + 0.5) * side for i in range(len(rows))], ["answered", "true"] * (len(rows) // 2))
        axes.set_xticks([])
        return True

    def _inside(self, value: Any) -> np.ndarray:
        """At the size and in the colours that the model sees."""
        return self.encoder.value(self.encoder.encode(value)["pixels"])


def _edges(grey: np.ndarray) -> np.ndarray:
    """How strong edges of each direction are in each cell of a grey picture (Dalal and Triggs 2005), length 1."""
    down, right = np.gradient(grey)
    strength, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
    direction = (angle / np.pi * _DIRECTIONS).astype(np.int64) % _DIRECTIONS
    each = np.where(direction == np.arange(_DIRECTIONS)[:, None, None], strength, 0.0)
    cells = min(_EDGE_CELLS, *grey.shape)
    histogram = cell_means(cell_means(each, cells, axis=1), cells, axis=2).ravel()
    return histogram / max(float(np.sqrt((histogram**2).sum())), 1e-6)


def _spread(x: np.ndarray) -> float | None:
    """Of values [n, ...] the median root mean squared difference of each to another."""
    if len(x) < 2:
        return None
    other = np.roll(x, len(x) // 2, axis=0)
    return float(np.median(np.sqrt(((x - other) ** 2).reshape(len(x), -1).mean(1))))


def _thumbnail(value: Any) -> np.ndarray:
    """[16, 16, 3], 0 to 1."""
    return np.asarray(resize(open_image(value).convert("RGB"), (16, 16))) / 255.0
