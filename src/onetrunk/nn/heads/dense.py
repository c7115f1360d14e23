"""Boxes read off a grid of states, without anchors: each state answers for k x k cells of its part of the picture.

One classifier and one box a cell, as FCOS (arXiv 1904.01355) and YOLOX (arXiv 2107.08430); the score of a class is
trained to be the overlap that its box reaches (quality focal loss, arXiv 2006.04388), so it ranks boxes too.

Boxes are [left, top, right, bottom]; across a picture -1 to 1, between its outer borders. C classes, k cells a side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_REACH = 1.5  # cells from a box's centre within which cells answer for it (centre sampling of FCOS)
_PRIOR = 0.01  # every class's score at the start, so that the many empty cells do not drown the others
_MOST_SIZE = 6.0  # of a size's logarithm: e^6 times the typical size is far outside any picture


class Dense(nn.Module):
    """States [r, D] to class logits [r, k², C] and raw boxes [r, k², 4] (`boxes_at` places them)."""

    def __init__(self, width: int, classes: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.hidden = nn.Linear(width, 2 * width)
        self.box = nn.Linear(2 * width, 4 * cells**2)
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.zeros_(self.box.bias)
        self.kind = nn.Parameter(torch.randn(classes, cells**2, 2 * width) * 0.01)
        self.bias = nn.Parameter(torch.full((classes, cells**2), float(np.log(_PRIOR / (1 - _PRIOR)))))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        h = F.gelu(self.hidden(h))
        logits = F.linear(h, self.kind.flatten(0, 1), self.bias.flatten())
        return logits.float().unflatten(1, self.bias.shape).mT, self.box(h).float().unflatten(1, (-1, 4))

    def extend(self, new: int) -> None:
        """`new` classes more, which begin as the mean of those known."""
        for name in ("kind", "bias"):
            old = getattr(self, name).data
            grown = torch.cat([old, old.mean(0, keepdim=True).expand(new, *old.shape[1:])])
            setattr(self, name, nn.Parameter(grown))


def boxes_at(raw: Tensor, centre: Tensor, typical: Sequence[float]) -> Tensor:
    """Raw boxes [..., 4] to boxes: a shift from `centre` [..., 2] and a size's logarithm, in typical sizes (w, h)."""
    half = torch.tensor(typical, dtype=raw.dtype, device=raw.device) / 2
    middle, size = centre + raw[..., :2] * half, half * raw[..., 2:].clamp(max=_MOST_SIZE).exp()
    return torch.cat([middle - size, middle + size], dim=-1)


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


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes [..., 4], and its generalised form, below 0 where they lie apart (arXiv
    1902.09630)."""
    union_low, union_high = torch.minimum(a, b)[..., :2], torch.maximum(a, b)[..., 2:]
    shared = (torch.minimum(a, b)[..., 2:] - torch.maximum(a, b)[..., :2]).clamp(min=0).prod(-1)
    union = _area(a) + _area(b) - shared
    hull = (union_high - union_low).prod(-1).clamp(min=1e-9)
    iou = shared / union.clamp(min=1e-9)
    return iou, iou - (hull - union) / hull


def _area(box: Tensor) -> Tensor:
    return (box[..., 2:] - box[..., :2]).prod(-1)


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Cross entropy with a quality of 0 to 1 as its target, little where the score is near it already."""
    distance = (quality - logits.sigmoid()).abs()
    return distance.square() * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def suppress(boxes_NK4: Tensor, ids_NK: Tensor, most: float) -> Tensor:
    """Non-maximum suppression, all documents at once: bool [N, K], true for what stays.

    Boxes come best first; one goes when it overlaps a better one of its class, that stays, by more than `most`.
    """
    N, K, _ = boxes_NK4.shape
    shared = overlaps(boxes_NK4[:, :, None], boxes_NK4[:, None])[0] > most
    shared &= ids_NK[:, :, None] == ids_NK[:, None]
    keep = torch.ones(N, K, dtype=torch.bool, device=boxes_NK4.device)
    for i in range(K - 1):
        keep[:, i + 1 :] &= ~(shared[:, i, i + 1 :] & keep[:, i : i + 1])
    return keep
