"""How drawn films are judged: by their pixels."""

from __future__ import annotations

import numpy as np

from onetrunk.columns.families.patches.evaluation import PatchEvaluation, cell_means
from onetrunk.columns.video.encoder import VideoEncoder

_CELLS = 8  # a side that a simple model sees of a frame, at most,
_FRAMES = 4  # and frames


class VideoEvaluation(PatchEvaluation[VideoEncoder]):
    mean_name = "mean film"

    def sketch(self, pixels: np.ndarray) -> np.ndarray:
        """Of pixels [T, C, H, W]; at most 768."""
        cells = min(_CELLS, self.encoder.size)
        frames = cell_means(pixels / 255.0, min(_FRAMES, len(pixels)), axis=0)
        return cell_means(cell_means(frames, cells, axis=2), cells, axis=3).reshape(-1)
