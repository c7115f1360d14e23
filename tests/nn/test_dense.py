"""The dense read-out of boxes: overlaps, suppression and assignment against slow loops; logits where they belong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from onetrunk.columns.boxes.cells import assign, cell_centres
from onetrunk.nn.heads.dense import Dense, boxes_at, overlaps, quality_focal, suppress


def some_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    low, size = torch.rand(*shape, 2, generator=dice) * 2 - 1, torch.rand(*shape, 2, generator=dice) * 0.8
    return torch.cat([low, low + size], dim=-1)


def slow_iou(a: list[float], b: list[float]) -> tuple[float, float]:
    """Intersection over union and the generalised one, by the definition, of two boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return width * height / union, width * height / union - (hull - union) / hull


def test_overlaps_are_those_of_the_definition() -> None:
    a, b = some_boxes(40), some_boxes(40, seed=1)
    iou, generalised = overlaps(a, b)
    slow = torch.tensor([slow_iou(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    torch.testing.assert_close(torch.stack([iou, generalised], dim=1), slow, rtol=1e-4, atol=1e-5)
    assert (iou == 0).any() and (generalised < 0).any()  # some lie apart
    torch.testing.assert_close(overlaps(a, a)[1], torch.ones(40))


def test_a_box_without_a_size_overlaps_nothing_and_has_finite_gradients() -> None:
    point = torch.zeros(1, 4, requires_grad=True)
    iou, generalised = overlaps(point, point.detach())
    (iou + generalised).sum().backward()
    assert iou.item() == 0 and torch.isfinite(point.grad).all()


@pytest.mark.parametrize("most", [0.2, 0.5, 1.0])
def test_suppression_is_the_greedy_loop_of_every_document(most: float) -> None:
    boxes = some_boxes(3, 60)
    ids = torch.randint(0, 2, (3, 60), generator=torch.Generator().manual_seed(2))
    keep = suppress(boxes, ids, most)
    for d in range(3):
        kept: list[int] = []
        for i in range(60):
            same = [j for j in kept if ids[d, i] == ids[d, j]]
            if all(slow_iou(boxes[d, i].tolist(), boxes[d, j].tolist())[0] <= most for j in same):
                kept.append(i)
        assert keep[d].nonzero()[:, 0].tolist() == kept
    assert keep.all() == (most == 1.0)


def test_suppression_of_nothing() -> None:
    assert suppress(torch.zeros(2, 0, 4), torch.zeros(2, 0), 0.5).shape == (2, 0)


@pytest.mark.parametrize(("side", "cells"), [(4, 1), (4, 2), (3, 3)])
def test_cells_stand_row_by_row_within_their_position(side: int, cells: int) -> None:
    centres, n = cell_centres(side, cells), side * cells
    for p in range(side**2):
        for c in range(cells**2):
            column, row = p % side * cells + c % cells, p // side * cells + c // cells
            assert centres[p, c] == pytest.approx([(column + 0.5) * 2 / n - 1, (row + 0.5) * 2 / n - 1])


def test_cells_answer_for_the_smallest_box_whose_centre_is_near() -> None:
    side, cells = 5, 2
    boxes = some_boxes(4, 6, seed=3).numpy()
    boxes[0, 2:] = boxes[3] = np.nan  # two boxes only; none
    boxes[1, 0] = [0.31, 0.31, 0.32, 0.32]  # smaller than a cell: the cell that holds it answers
    result = assign(boxes, side, cells)
    step = 2 / (side * cells)
    for m in range(4):
        for p, position in enumerate(cell_centres(side, cells)):
            for c, (x, y) in enumerate(position):
                able = []
                for k, (left, top, right, bottom) in enumerate(boxes[m].tolist()):
                    if math.isnan(left):
                        continue
                    away = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
                    if (left < x < right and top < y < bottom and away < 1.5 * step) or away <= step / 2:
                        able.append(((right - left) * (bottom - top), k))
                assert result[m, p, c] == (min(able)[1] if able else -1)
    assert (result[3] == -1).all() and (result[1] == 0).sum() == 1
    assert assign(boxes[:, :0], side, cells).shape == result.shape


def test_raw_zeros_are_a_box_of_typical_size_in_the_cell() -> None:
    centre = torch.tensor([[0.5, -0.5]])
    torch.testing.assert_close(boxes_at(torch.zeros(1, 4), centre, [0.2, 0.4]), torch.tensor([[0.4, -0.7, 0.6, -0.3]]))
    moved = boxes_at(torch.tensor([[1.0, 0, math.log(2), 0]]), centre, [0.2, 0.4])
    torch.testing.assert_close(moved, torch.tensor([[0.4, -0.7, 0.8, -0.3]]))
    assert torch.isfinite(boxes_at(torch.full((1, 4), 1e4), centre, [0.2, 0.4])).all()


def test_quality_is_cross_entropy_weighed_by_the_square_of_the_distance() -> None:
    logits, quality = torch.tensor([0.0, 2.0, -3.0]), torch.tensor([1.0, 0.7, 0.0])
    p = logits.sigmoid()
    slow = (quality - p) ** 2 * -(quality * p.log() + (1 - quality) * (1 - p).log())
    torch.testing.assert_close(quality_focal(logits, quality), slow)
    assert quality_focal(torch.logit(torch.tensor([0.3])), torch.tensor([0.3])).item() < 1e-12


def test_new_classes_leave_the_logits_of_the_old_ones() -> None:
    head = Dense(16, 3, 2)
    h = torch.randn(5, 16)
    logits, raw = head(h)
    assert logits.shape == (5, 4, 3) and raw.shape == (5, 4, 4)
    head.grow([[], []])
    grown, same = head(h)
    assert grown.shape == (5, 4, 5)
    torch.testing.assert_close(grown[..., :3], logits)
    torch.testing.assert_close(grown[..., 3], logits.mean(-1))
    torch.testing.assert_close(same, raw)
    one = head.bias.detach().clone()
    head.bias.data[1, 2] += 9
    assert (head(h)[0] - grown).abs().amax(0).argmax().item() == 2 * 5 + 1  # cell 2, class 1
    assert one.shape == (5, 4)
