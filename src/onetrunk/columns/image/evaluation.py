"""How drawn pictures are judged: by their pixels, by how far they are from copies of training pictures, and by how
much they differ from each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.families.patches.evaluation import PatchEvaluation
from onetrunk.columns.image.encoder import ImageEncoder
from onetrunk.columns.image.perturbations import image_perturbations
from onetrunk.core.answer import Answer
from onetrunk.core.evaluation import Drawn
from onetrunk.core.perturbation import Perturbation, Perturbed
from onetrunk.media.image import open_image, resize, sheet
from onetrunk.metrics.images import nearest

_ACROSS = 10  # pictures in a row of a figure


class ImageEvaluation(PatchEvaluation[ImageEncoder], Drawn, Perturbed):
    mean_name = "mean image"

    def perturbations(self) -> tuple[Perturbation, ...]:
        return image_perturbations()

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

    def nearest_known(self, values: Sequence[Any], known: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Root mean squared differences of thumbnails, 0 to 1."""
        seen, training = (np.stack([*map(_thumbnail, side)]) for side in (values, known))
        distance, index = nearest(seen, training)
        return distance / training[0].size ** 0.5, index

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


def _spread(x: np.ndarray) -> float | None:
    """Of values [n, ...] the median root mean squared difference of each to another."""
    if len(x) < 2:
        return None
    other = np.roll(x, len(x) // 2, axis=0)
    return float(np.median(np.sqrt(((x - other) ** 2).reshape(len(x), -1).mean(1))))


def _thumbnail(value: Any) -> np.ndarray:
    """[16, 16, 3], 0 to 1."""
    return np.asarray(resize(open_image(value).convert("RGB"), (16, 16))) / 255.0
