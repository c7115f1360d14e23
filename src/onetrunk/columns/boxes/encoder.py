"""Boxes as class numbers and corners: followed into what is seen of their picture, assigned to its cells, masked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.boxes.cells import assign, cell_centres
from onetrunk.columns.boxes.drawing import drawn
from onetrunk.columns.boxes.values import entries_of, usable_entries
from onetrunk.core import rng
from onetrunk.core.config import Config
from onetrunk.core.content import Content, ReadPositions, Role, Segment, local_positions
from onetrunk.core.encoder import Beside, Encoder, Growth, Located, SegmentContext
from onetrunk.core.errors import BadValueError, DataError, UsageError
from onetrunk.core.parts import Arrays, Divided, Parts

MAX_CANDIDATES = 300  # a picture's best cells, before suppression
_MIN_SEEN = 0.3  # share of a box that must be left in an augmented picture
_NOTHING = -1  # instead of a class: an empty cell
IGNORED = -2  # instead of a class: a cell of which nothing is learnt


class BoxesEncoder(Encoder, Located, Divided):
    """Given, a position for each box. Asked, they are read densely on a picture's positions. Masked, the labels or the
    corners of some boxes are masked and predicted in place."""

    type_name = "boxes"
    ragged = True
    divisible = True

    class Options(Config):
        on: str = "image"  # the column of the pictures that the boxes lie in
        cells: int = Field(2, ge=1, le=16)  # each position of the picture answers for cells x cells cells of it
        min_score: float = Field(0.02, ge=0, lt=1)  # of an answered box
        max_boxes: int = Field(100, ge=1, le=MAX_CANDIDATES)  # answered in a picture
        overlap: float = Field(0.6, gt=0, le=1)  # how much (intersection over union) two of a class may share
        mask_rate: float = Field(0.3, gt=0, le=1)  # share of boxes masked
        size_weight: float = Field(2.0, ge=0)  # of the boxes' corners in the loss, beside their classes

    options: Options
    classes: list[str]
    counts: list[int]  # of the classes' training boxes
    extent: list[float]  # the farthest corner, in pixels
    typical: list[float]  # the median width and height, in half extents

    @property
    def on(self) -> str | None:
        return self.options.on

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        lists = all(
            isinstance(v, list) and all(isinstance(b, dict) and {"label", "box"} <= b.keys() for b in v) for v in values
        )
        return float(lists and any(values))

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        usable = [usable_entries(value) for value in values]
        sides = [box[2:] for entries in usable for _, box in entries]
        if not sides:
            return {"boxes": 0}
        width, height = np.median(sides, axis=0)
        return {
            "boxes": len(sides),
            "in a row": f"{min(map(len, usable))} to {max(map(len, usable))}",
            "usual size": f"{width:.0f} × {height:.0f} pixels",
            "counts": dict(Counter(label for entries in usable for label, _ in entries).most_common(20)),
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        try:
            return repr(sorted(entries_of(value)))
        except BadValueError:
            return f"unusable {value!r}"

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        """Drawn on its picture, where there is one; of answers, the surer boxes."""
        return drawn(value, on)

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        entries = [entry for value in values for entry in usable_entries(value)]
        if not entries:
            raise DataError("A column of boxes needs at least one box with a size in the training rows; found none.")
        counts = Counter(label for label, _ in entries)
        boxes = np.array([box for _, box in entries])
        self.classes = sorted(counts)
        self.counts = [counts[name] for name in self.classes]
        self.extent = [float(side) for side in (boxes[:, :2] + boxes[:, 2:]).max(0)]
        self.typical = [float(side) for side in 2 * np.median(boxes[:, 2:], axis=0) / self.extent]

    def extend(self, values: Sequence[Any]) -> Growth:
        new = sorted({label for v in values for label, _ in usable_entries(v)} - set(self.classes))
        self.classes, self.counts = self.classes + new, self.counts + [1] * len(new)
        return Growth({"classes": [[] for _ in new]})

    def knowledge(self) -> dict[str, Any]:
        return {"classes": self.classes, "counts": self.counts, "extent": self.extent, "typical": self.typical}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.classes, self.counts = list(knowledge["classes"]), list(knowledge["counts"])
        self.extent, self.typical = list(knowledge["extent"]), list(knowledge["typical"])

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """Boxes of a class unseen in training are -1, those without a size stay: `dropped` counts both."""
        entries = entries_of(value)
        known = {name: i for i, name in enumerate(self.classes)}
        ids = np.array([known.get(label, _NOTHING) for label, _ in entries], dtype=np.int64)
        return {"id": ids, "box": np.array([box for _, box in entries], dtype=np.float32).reshape(-1, 4)}

    def blank(self) -> dict[str, np.ndarray]:
        return {"id": np.zeros(0, dtype=np.int64), "box": np.zeros((0, 4), dtype=np.float32)}

    def max_positions(self, content: Content) -> np.ndarray:
        return content.lens

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        arrays = content.gather()
        low, size = arrays["box"][:, :2], arrays["box"][:, 2:]
        counts = {
            "boxes of a class unseen in training": (arrays["id"] < 0).sum(),
            "boxes without a size": (size <= 0).any(1).sum(),
        }
        if read_on is not None:
            counts[f"lists of boxes whose {self.options.on} is missing: not trained on"] = (read_on.index < 0).sum()
            whose = np.repeat(read_on.index, content.lens)
            pictures = read_on.content
            sides = pictures.data["sides"][np.maximum(whose, 0)] if len(pictures) else np.full((len(whose), 2), np.inf)
            outside = ((low >= sides) | (low + size <= 0)).any(1) & (whose >= 0)
            beyond = ((low < -1) | (low + size > sides + 1)).any(1) & (whose >= 0) & ~outside
            counts["boxes outside their picture"] = outside.sum()
            counts["boxes that reach beyond their picture, cut at its border"] = beyond.sum()
        return {reason: int(count) for reason, count in counts.items() if count}

    # -- parts -------------------------------------------------------------------------------------------------------
    def parts(self, content: Content, asked: bool) -> Parts:
        arrays = content.gather()
        labels = [
            f"{'unknown' if i < 0 else self.classes[i]} at {x:.0f}, {y:.0f}"
            for i, (x, y, _, _) in zip(arrays["id"].tolist(), arrays["box"].tolist(), strict=True)
        ]
        return Parts(np.arange(0 if asked else len(labels)), [] if asked else labels, "box")

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        return {**arrays, "masked": arrays["masked"] | hidden[:, None]}

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        if context.role == Role.ASKED:
            return self._asked(content, context.read_positions or ReadPositions(np.zeros(len(content), dtype=np.int64)))
        arrays = content.gather()
        n = len(arrays["id"])
        embedded = {"id": arrays["id"], "box": self._normed(arrays["box"]), "masked": np.zeros((n, 2), dtype=bool)}
        if context.role == Role.GIVEN:
            return Segment(embedded, content.lens)
        masked = self._masked(content, arrays, context.keys)
        reads = np.flatnonzero(masked.any(1))
        targets = self._targets_in_place(arrays["id"][reads], embedded["box"][reads], masked[reads])
        embedded = {
            "id": np.where(masked[:, 0], 0, arrays["id"]),
            "box": embedded["box"] * ~masked[:, 1:],
            "masked": masked,
        }
        return Segment(embedded, content.lens, reads=reads, targets=targets)

    def _masked(self, content: Content, arrays: dict[str, np.ndarray], keys: np.ndarray) -> np.ndarray:
        """Either the label of a box, where it is known, or its corners, where it has a size: bool [n, 2]."""
        u = rng.uniform(rng.mix(np.repeat(keys, content.lens), "hide", local_positions(content.lens)), 2)
        usable = np.stack([arrays["id"] >= 0, (arrays["box"][:, 2:] > 0).all(1)], axis=1)
        return (u[:, :1] < self.options.mask_rate) & ((u[:, 1:] < 0.5) == np.array([True, False])) & usable

    def _targets_in_place(self, ids: np.ndarray, boxes: np.ndarray, masked: np.ndarray) -> dict[str, np.ndarray]:
        """Of r masked boxes, in the shape of dense targets: the first cell stands for the box."""
        r, cells = len(ids), self.options.cells**2
        first = np.arange(cells) == 0
        return {
            "id": np.where(first & masked[:, :1], ids[:, None], IGNORED),
            "boxed": first & masked[:, 1:],
            "box": np.repeat(boxes[:, None], cells, axis=1),
            "centre": np.zeros((r, cells, 2), dtype=np.float32),
            "in_place": np.ones(r, dtype=bool),
            "w": np.ones(r, dtype=np.float32),
        }

    def _normed(self, box: np.ndarray) -> np.ndarray:
        """Pixels [n, 4] (x, y, width, height) to corners, the extent being -1 to 1."""
        corners = np.concatenate([box[:, :2], box[:, :2] + np.maximum(box[:, 2:], 0)], axis=1)
        return (corners / np.array(self.extent * 2, dtype=np.float32) * 2 - 1).astype(np.float32)

    def _asked(self, content: Content, pictures: ReadPositions) -> Segment:
        """Every cell of every picture is told which box it answers for, if any."""
        m, k = len(content), self.options.cells
        side = self.grid_side(pictures)
        there = np.flatnonzero(pictures.lens)
        frame = pictures.facts["frame"][there] if len(there) else np.zeros((0, 2, 3))
        boxes, ids = self._seen(content.take(there), frame)
        chosen = assign(boxes, side, k).reshape(len(there), side**2 * k**2)
        boxed, index = chosen >= 0, np.maximum(chosen, 0)
        if not boxes.shape[1]:  # no box in any of them: one that nothing answers for
            boxes, ids = np.zeros((len(there), 1, 4), np.float32), np.zeros((len(there), 1), np.int64)
        classes = np.take_along_axis(ids, index, axis=1)
        shape = (len(there) * side**2, k**2)
        targets = {
            "id": np.where(boxed, np.where(classes < 0, IGNORED, classes), _NOTHING).reshape(shape),
            "boxed": (boxed & (classes >= 0)).reshape(shape),
            "box": np.take_along_axis(boxes, index[..., None], axis=1).reshape(*shape, 4),
            "centre": np.tile(cell_centres(side, k), (len(there), 1, 1)),
            "in_place": np.zeros(shape[0], dtype=bool),
            "w": np.ones(shape[0], dtype=np.float32),
        }
        nothing = {**self.blank(), "masked": np.zeros((0, 2), dtype=bool)}
        reads = np.arange(shape[0], dtype=np.int64)
        return Segment(nothing, np.zeros(m, dtype=np.int64), reads=reads, targets=targets)

    def grid_side(self, pictures: ReadPositions) -> int:
        """Positions along a side of the pictures, which are square grids; 0 where all are missing.

        Raises UsageError for a column that is no pictures.
        """
        if not pictures.lens.any():
            return 0
        side = int(pictures.lens.max() ** 0.5)
        if "frame" not in pictures.facts or not np.isin(pictures.lens, (0, side**2)).all():
            raise UsageError(
                f"Boxes are read on a column of pictures, square grids of one size; {self.options.on!r} has none."
            )
        return side

    def _seen(self, content: Content, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes as they lie in what is seen, -1 to 1: float32 [m, K, 4], NaN where there is none; classes [m, K].

        `frame` [m, 2, 3] takes what is seen of a picture to its own pixels (`ImageEncoder`).
        """
        arrays, m, K = content.gather(), len(content), int(content.lens.max(initial=0))
        doc, local = np.repeat(np.arange(m), content.lens), local_positions(content.lens)
        low, size = arrays["box"][:, :2], arrays["box"][:, 2:]
        back = np.linalg.inv(frame[:, :, :2].astype(np.float64))
        edges = np.stack([low, low + size], axis=1)  # [n, 2, xy]
        corners = np.stack([edges[:, [0, 0, 1, 1], 0], edges[:, [0, 1, 0, 1], 1]], axis=-1)  # [n, 4 corners, xy]
        moved = np.einsum("nij,ncj->nci", back[doc], corners - frame[doc, None, :, 2])
        whole = np.concatenate([moved.min(1), moved.max(1)], axis=1)
        cut = whole.clip(-1, 1)
        area, left = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (whole, cut))
        cut[(size <= 0).any(1) | (left <= _MIN_SEEN * area)] = np.nan
        boxes, ids = np.full((m, K, 4), np.nan, dtype=np.float32), np.zeros((m, K), dtype=np.int64)
        boxes[doc, local], ids[doc, local] = cut, arrays["id"]
        return boxes, ids
