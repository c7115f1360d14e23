"""Answered boxes against the true ones, by COCO's rules, through pycocotools.

Values are lists of `{"label", "box": [x, y, width, height]}` in pixels; answers have a `score` too.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.core.errors import MissingExtraError
from onetrunk.core.metric import Metric

DETECTION = (Metric("mAP@.5", True), Metric("mAP@[.5:.95]", True))

Boxes = Sequence[dict[str, Any]]


def average_precision(truths: Sequence[Boxes], answers: Sequence[Boxes]) -> dict[str, float | None]:
    """Mean over the classes that are true somewhere of the average precision (101 points, at most 100 boxes a picture):
    where an overlap (IoU) of .5 is a hit; and the mean over .5, .55, … .95 (arXiv 1405.0312)."""
    precision, _, _ = _evaluated(truths, answers)
    if not precision.size:
        return {"mAP@.5": None, "mAP@[.5:.95]": None}
    return {"mAP@.5": float(precision[0].mean()), "mAP@[.5:.95]": float(precision.mean())}


def precision_recall(truths: Sequence[Boxes], answers: Sequence[Boxes]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Recall [101], and every class's precision there, where an overlap of .5 is a hit."""
    precision, recall, names = _evaluated(truths, answers)
    return recall, {name: precision[0, :, i] for i, name in enumerate(names)}


def _evaluated(truths: Sequence[Boxes], answers: Sequence[Boxes]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Precision [10 overlaps, 101 recalls, C classes that are true somewhere], the recalls, the classes."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtraError("pycocotools", "detect", "Measuring boxes") from None
    names = sorted({str(b["label"]) for value in truths for b in value if min(b["box"][2:]) > 0})
    ids = {name: i for i, name in enumerate(names, 1)}
    tables = []
    for values in (truths, answers):
        entries = [
            (i, b) for i, value in enumerate(values) for b in value if str(b["label"]) in ids and min(b["box"][2:]) > 0
        ]
        annotations = [
            {
                "id": j,
                "image_id": i,
                "category_id": ids[str(b["label"])],
                "bbox": list(b["box"]),
                "area": b["box"][2] * b["box"][3],
                "iscrowd": 0,
                "score": b.get("score", 1.0),
            }
            for j, (i, b) in enumerate(entries, 1)
        ]
        table = COCO()
        table.dataset = {
            "images": [{"id": i} for i in range(len(values))],
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for name, i in ids.items()],
        }
        tables.append(table)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on itself
        for table in tables:
            table.createIndex()
        judge = COCOeval(*tables, "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.maxDets = [100]
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"][:, :, :, 0, 0] if names else np.zeros((10, 101, 0)), judge.params.recThrs, names
