"""The cells that answer for boxes: k x k of them in each position of a picture's square grid.

Boxes are [left, top, right, bottom]; across a picture -1 to 1, between its outer borders.
"""

from __future__ import annotations

import numpy as np

_REACH = 1.5  # cells from a box's centre within which cells answer for it (centre sampling of FCOS, arXiv 1904.01355)


def cell_centres(side: int, cells: int) -> np.ndarray:
    """Of the k² cells of each of side² positions, row by row: float32 [side², k², 2], x and y."""
    n = side * cells
    along = ((np.arange(n, dtype=np.float32) + 0.5) * 2 / max(1, n) - 1).reshape(side, cells)
    grid = np.stack(np.broadcast_arrays(along[None, :, None, :], along[:, None, :, None]), axis=-1)
    return grid.reshape(side**2, cells**2, 2)  # [row, column, row in it, column in it, 2]


def assign(boxes_MK4: np.ndarray, side: int, cells: int) -> np.ndarray:
    """Which box each cell answers for, int64 [M, side², k²]; -1: none. NaN where there is no box.

    A cell near a box's centre and inside it; of several boxes the smallest. Also the cell that holds the centre.
    """
    M, K, _ = boxes_MK4.shape
    centres, step = cell_centres(side, cells), 2 / max(1, side * cells)
    if not K:
        return np.full((M, *centres.shape[:2]), -1, dtype=np.int64)
    low, high = boxes_MK4[:, None, None, :, :2], boxes_MK4[:, None, None, :, 2:]
    point = centres[:, :, None]
    away = np.abs(point - (low + high) / 2).max(-1)  # [M, P, k², K]
    inside = ((point > low) & (point < high)).all(-1)
    answers = (inside & (away < _REACH * step)) | (away <= step / 2)
    area = np.where(answers, (high - low).prod(-1), np.inf)
    return np.where(answers.any(-1), area.argmin(-1), -1)
