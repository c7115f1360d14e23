"""Boxes from a grid of states, without anchors: each state predicts those of k x k cells of its part of the picture.

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

from onetrunk.core.module import grown
from onetrunk.nn.init import normal, normal_

_PRIOR = 0.01  # every class's score at the start, so that the many empty cells do not drown the others
_MAX_SIZE = 6.0  # of a size's logarithm: e^6 times the typical size is far outside any picture


class Dense(nn.Module):
    """States [r, D] to class logits [r, k², C] and raw boxes [r, k², 4] (`boxes_at` places them)."""

    def __init__(self, width: int, classes: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.hidden = nn.Linear(width, 2 * width)
        self.box = nn.Linear(2 * width, 4 * cells**2)
        normal_(self.box.weight, std=0.01)
        nn.init.zeros_(self.box.bias)
        self.kind = nn.Parameter(normal(classes, cells**2, 2 * width, std=0.01))
        self.bias = nn.Parameter(torch.full((classes, cells**2), float(np.log(_PRIOR / (1 - _PRIOR)))))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        h = F.gelu(self.hidden(h))
        logits = F.linear(h, self.kind.flatten(0, 1), self.bias.flatten())
        return logits.float().unflatten(1, self.bias.shape).mT, self.box(h).float().unflatten(1, (-1, 4))

    def grow(self, rows: list[list[int]]) -> None:
        """New classes, each of which begins as the mean of the classes named, or of all (`core.module.grown`)."""
        self.kind, self.bias = grown(self.kind, rows), grown(self.bias, rows)


def boxes_at(raw: Tensor, centre: Tensor, typical: Sequence[float]) -> Tensor:
    """Raw boxes [..., 4] to boxes: a shift from `centre` [..., 2] and a size's logarithm, in typical sizes (w, h)."""
    half = torch.tensor(typical, dtype=raw.dtype, device=raw.device) / 2
    middle, size = centre + raw[..., :2] * half, half * raw[..., 2:].clamp(max=_MAX_SIZE).exp()
    return torch.cat([middle - size, middle + size], dim=-1)


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


def suppress(boxes_NK4: Tensor, ids_NK: Tensor, max_overlap: float) -> Tensor:
    """Non-maximum suppression, all documents at once: bool [N, K], true for what stays.

    Boxes come best first; one goes when it overlaps a better one of its class, that stays, by more than `max_overlap`.
    """
    N, K, _ = boxes_NK4.shape
    shared = overlaps(boxes_NK4[:, :, None], boxes_NK4[:, None])[0] > max_overlap
    shared &= ids_NK[:, :, None] == ids_NK[:, None]
    keep = torch.ones(N, K, dtype=torch.bool, device=boxes_NK4.device)
    for i in range(K - 1):
        keep[:, i + 1 :] &= ~(shared[:, i, i + 1 :] & keep[:, i : i + 1])
    return keep
