"""Boxes: what stands where in a picture. Asked, it is object detection.

A value is a list of `{"label": ..., "box": [x, y, width, height]}`, in pixels from the picture's upper left corner
(COCO's way); an empty list says that nothing is there. Answers are the same, with a `score`, the surest first.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageDraw
from PIL.Image import Resampling
from pydantic import Field
from torch import Tensor, nn

from onetrunk.columns._pictures import as_png, open_image
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss, state_of
from onetrunk.core.column import Codec
from onetrunk.core.config import Config
from onetrunk.core.content import Content, On, Role, Segment, local_positions
from onetrunk.core.decoding import AnswerContext, State
from onetrunk.core.errors import BadValueError, DataError, UsageError
from onetrunk.nn.heads.dense import Dense, assign, boxes_at, cell_centres, overlaps, quality_focal, suppress

_CANDIDATES = 300  # a picture's best cells, before suppression
_FREQUENCIES = 6  # of a given box's sides
_SEEN = 0.3  # share of a box that must be left in an augmented picture
_DRAWN = 0.3  # score from which an answered box is drawn and counted for a person
_SHOWN = 512  # pixels of a side, at most, and at least about half of them
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito 2008
_NOTHING, _IGNORED = -1, -2  # instead of a class: an empty cell; one of which nothing is learnt


class Boxes(Codec):
    """Given, a position for each box. Asked, it is read densely on a picture's positions. Masked, labels or places of
    some boxes are hidden and predicted in place."""

    ragged = True
    parts = True
    read_out = ("dense", "label_head", "place_head")

    class Options(Config):
        on: str = "image"  # the column of the pictures that the boxes lie in
        cells: int = Field(2, ge=1, le=16)  # each position of the picture answers for cells x cells parts of it
        least: float = Field(0.02, ge=0, lt=1)  # score of an answered box,
        most: int = Field(100, ge=1, le=_CANDIDATES)  # answered boxes in a picture,
        overlap: float = Field(0.6, gt=0, le=1)  # and how much (intersection over union) two of a class may share
        hide: float = Field(0.3, gt=0, le=1)  # share of boxes hidden when masked
        size_weight: float = Field(2.0, ge=0)  # of the boxes' places in the loss, beside their classes

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        lists = all(
            isinstance(v, list) and all(isinstance(b, dict) and {"label", "box"} <= b.keys() for b in v) for v in values
        )
        return float(lists and any(values))

    def fit(self, values: Sequence[Any]) -> None:
        found = [entry for value in values for entry in _usable_entries(value)]
        if not found:
            raise DataError("A column of boxes needs at least one box with a size in the training rows; found none.")
        counts = Counter(label for label, _ in found)
        boxes = np.array([box for _, box in found])
        self.classes = sorted(counts)
        self.counts = [counts[name] for name in self.classes]
        self.extent = [float(side) for side in (boxes[:, :2] + boxes[:, 2:]).max(0)]
        self.typical = [float(side) for side in 2 * np.median(boxes[:, 2:], axis=0) / self.extent]

    def extend(self, values: Sequence[Any]) -> int:
        new = sorted({label for v in values for label, _ in _usable_entries(v)} - set(self.classes))
        self.classes, self.counts = self.classes + new, self.counts + [1] * len(new)
        if new and hasattr(self, "table"):
            self.dense.extend(len(new))
            for name in ("table", "label_head"):
                old = getattr(self, name).data
                setattr(self, name, nn.Parameter(torch.cat([old, old.mean(0, keepdim=True).expand(len(new), -1)])))
        return len(new)

    def knowledge(self) -> dict[str, Any]:
        """`extent` is the farthest corner, in pixels; `typical` the median width and height, in half extents."""
        return {"classes": self.classes, "counts": self.counts, "extent": self.extent, "typical": self.typical}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.classes, self.counts = list(knowledge["classes"]), list(knowledge["counts"])
        self.extent, self.typical = list(knowledge["extent"]), list(knowledge["typical"])

    def build(self, width: int) -> None:
        self.dense = Dense(width, len(self.classes), self.options.cells)
        self.table = nn.Parameter(torch.randn(len(self.classes), width) * width**-0.5)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.hidden = nn.Parameter(torch.randn(2, width) * width**-0.5)  # instead of a label, of a place
        self.place = nn.Linear(8 * _FREQUENCIES, width)
        self.label_head = nn.Parameter(torch.zeros(len(self.classes), width))
        self.place_head = nn.Linear(width, 4)

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        usable = [_usable_entries(value) for value in values]
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
            return repr(sorted(_entries(value)))
        except BadValueError:
            return f"unusable {value!r}"

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        """Drawn on its picture, where there is one; of answers, the surer boxes."""
        entries = [(*entry, b) for entry, b in zip(_entries(value), value, strict=True) if b.get("score", 1) >= _DRAWN]
        counts = Counter(label for label, _, _ in entries)
        words = ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing"
        try:
            picture = None if on is None else open_image(on).convert("RGB")
        except BadValueError:
            picture = None
        if picture is None:
            return {"text": words}
        factor = _SHOWN / max(picture.size)
        factor = factor if factor < 1 else int(factor)  # whole pixels
        picture = picture.resize([max(1, round(side * factor)) for side in picture.size], Resampling.BILINEAR)
        pen = ImageDraw.Draw(picture)
        for label, (x, y, w, h), entry in entries:
            colour = _COLOURS[zlib.crc32(label.encode()) % len(_COLOURS)]
            pen.rectangle([x * factor, y * factor, (x + w) * factor, (y + h) * factor], outline=colour, width=2)
            said = f"{label} {entry['score']:.2f}" if "score" in entry else label
            corner = (x * factor + 3, y * factor + 1)
            pen.rectangle(pen.textbbox(corner, said), fill=colour)
            pen.text(corner, said, fill="white")
        return {"png": as_png(picture)}

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """Boxes of a class unseen in training are -1, those without a size stay: `dropped` counts both."""
        entries = _entries(value)
        known = {name: i for i, name in enumerate(self.classes)}
        ids = np.array([known.get(label, _NOTHING) for label, _ in entries], dtype=np.int64)
        return {"id": ids, "box": np.array([box for _, box in entries], dtype=np.float32).reshape(-1, 4)}

    def blank(self) -> dict[str, np.ndarray]:
        return {"id": np.zeros(0, dtype=np.int64), "box": np.zeros((0, 4), dtype=np.float32)}

    def positions(self, content: Content) -> np.ndarray:
        return content.lens

    def dropped(self, content: Content, on: Content | None = None, place: np.ndarray | None = None) -> dict[str, int]:
        parts = content.gather()
        low, size = parts["box"][:, :2], parts["box"][:, 2:]
        found = {
            "boxes of a class unseen in training": (parts["id"] < 0).sum(),
            "boxes without a size": (size <= 0).any(1).sum(),
        }
        if on is not None:
            found[f"lists of boxes whose {self.options.on} is missing: not trained on"] = (place < 0).sum()
            whose = np.repeat(place, content.lens)
            sides = on.data["sides"][np.maximum(whose, 0)] if len(on) else np.full((len(whose), 2), np.inf)
            outside = ((low >= sides) | (low + size <= 0)).any(1) & (whose >= 0)
            beyond = ((low < -1) | (low + size > sides + 1)).any(1) & (whose >= 0) & ~outside
            found["boxes outside their picture"] = outside.sum()
            found["boxes that reach beyond their picture, cut at its border"] = beyond.sum()
        return {reason: int(count) for reason, count in found.items() if count}

    # -- parts to positions ------------------------------------------------------------------------------------------
    def reads_on(self) -> str | None:
        return self.options.on

    def segment(
        self, content: Content, role: Role, keys: np.ndarray, augment: bool = False, on: On | None = None
    ) -> Segment:
        if role == Role.ASKED:
            return self._asked(content, on)
        parts = content.gather()
        n, cells = len(parts["id"]), self.options.cells**2
        u = rng.uniform(rng.mix(np.repeat(keys, content.lens), "hide", local_positions(content.lens)), 2)
        hidden = np.zeros((n, 2), dtype=bool)
        if role == Role.MASKED:  # either the label, where it is known, or the place
            usable = np.stack([parts["id"] >= 0, (parts["box"][:, 2:] > 0).all(1)], axis=1)
            hidden = (u[:, :1] < self.options.hide) & ((u[:, 1:] < 0.5) == np.array([True, False])) & usable
        shown = {"id": parts["id"], "box": self._normed(parts["box"]), "hidden": hidden}
        if role == Role.GIVEN:
            return Segment(shown, content.lens)
        reads = np.flatnonzero(hidden.any(1))
        of_label, of_place = hidden[reads].T
        first = np.arange(cells) == 0  # targets have the shape of dense ones
        targets = {
            "id": np.where(first & of_label[:, None], parts["id"][reads, None], _IGNORED),
            "boxed": first & of_place[:, None],
            "box": np.repeat(shown["box"][reads, None], cells, axis=1),
            "centre": np.zeros((len(reads), cells, 2), dtype=np.float32),
            "placed": np.ones(len(reads), dtype=bool),
            "w": np.ones(len(reads), dtype=np.float32),
        }
        shown = {"id": np.where(hidden[:, 0], 0, parts["id"]), "box": shown["box"] * ~hidden[:, 1:], "hidden": hidden}
        return Segment(shown, content.lens, reads=reads, targets=targets)

    def _normed(self, box: np.ndarray) -> np.ndarray:
        """Pixels [n, 4] (x, y, width, height) to corners, the extent being -1 to 1."""
        corners = np.concatenate([box[:, :2], box[:, :2] + np.maximum(box[:, 2:], 0)], axis=1)
        return (corners / np.array(self.extent * 2, dtype=np.float32) * 2 - 1).astype(np.float32)

    def _asked(self, content: Content, on: On) -> Segment:
        m, k = len(content), self.options.cells
        side = self._side(on)
        there = np.flatnonzero(on.lens)
        boxes, ids = self._seen(content.take(there), on.frame[there] if len(there) else np.zeros((0, 2, 3)))
        found = assign(boxes, side, k).reshape(len(there), side**2 * k**2)
        here, held = found >= 0, np.maximum(found, 0)
        if not boxes.shape[1]:  # no box in any of them: one that nothing answers for
            boxes, ids = np.zeros((len(there), 1, 4), np.float32), np.zeros((len(there), 1), np.int64)
        kinds = np.take_along_axis(ids, held, axis=1)
        shape = (len(there) * side**2, k**2)
        targets = {
            "id": np.where(here, np.where(kinds < 0, _IGNORED, kinds), _NOTHING).reshape(shape),
            "boxed": (here & (kinds >= 0)).reshape(shape),
            "box": np.take_along_axis(boxes, held[..., None], axis=1).reshape(*shape, 4),
            "centre": np.tile(cell_centres(side, k), (len(there), 1, 1)),
            "placed": np.zeros(shape[0], dtype=bool),
            "w": np.ones(shape[0], dtype=np.float32),
        }
        nothing = {"id": np.zeros(0, np.int64), "box": np.zeros((0, 4), np.float32), "hidden": np.zeros((0, 2), bool)}
        reads = np.arange(shape[0], dtype=np.int64)
        return Segment(nothing, np.zeros(m, dtype=np.int64), reads=reads, targets=targets)

    def _side(self, on: On) -> int:
        """Positions along a side of the pictures, which are square grids; 0 where all are missing."""
        if not on.lens.any():
            return 0
        side = int(on.lens.max() ** 0.5)
        if on.frame is None or not np.isin(on.lens, (0, side**2)).all():
            raise UsageError(
                f"Boxes are read on a column of pictures, square grids of one size; {self.options.on!r} has none."
            )
        return side

    def _seen(self, content: Content, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes as they lie in what is seen, -1 to 1: float32 [m, K, 4], NaN where there is none; classes [m, K]."""
        parts, m, K = content.gather(), len(content), int(content.lens.max(initial=0))
        doc, local = np.repeat(np.arange(m), content.lens), local_positions(content.lens)
        low, size = parts["box"][:, :2], parts["box"][:, 2:]
        back = np.linalg.inv(frame[:, :, :2].astype(np.float64))
        edges = np.stack([low, low + size], axis=1)  # [n, 2, xy]
        corners = np.stack([edges[:, [0, 0, 1, 1], 0], edges[:, [0, 1, 0, 1], 1]], axis=-1)  # [n, 4 corners, xy]
        moved = np.einsum("nij,ncj->nci", back[doc], corners - frame[doc, None, :, 2])
        whole = np.concatenate([moved.min(1), moved.max(1)], axis=1)
        cut = whole.clip(-1, 1)
        area, left = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (whole, cut))
        cut[(size <= 0).any(1) | (left <= _SEEN * area)] = np.nan
        boxes, ids = np.full((m, K, 4), np.nan, dtype=np.float32), np.zeros((m, K), dtype=np.int64)
        boxes[doc, local], ids[doc, local] = cut, parts["id"]
        return boxes, ids

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        ids, hidden = content["id"], content["hidden"]
        label = torch.where((ids < 0)[:, None], self.unknown, F.embedding(ids.clamp(min=0), self.table))
        octaves = torch.pi * 2.0 ** torch.arange(_FREQUENCIES, device=ids.device)
        angle = (content["box"][..., None] * octaves / 2).flatten(1)
        place = self.place(torch.cat([angle.sin(), angle.cos()], dim=1))
        return torch.where(hidden[:, :1], self.hidden[0], label) + torch.where(hidden[:, 1:], self.hidden[1], place)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Of a read, the sum over its cells: quality focal of the classes, and 1 - generalised IoU of the boxes."""
        ids, boxed, w = targets["id"], targets["boxed"], targets["w"]
        cells, placed = (found.nonzero()[:, 0] for found in (~targets["placed"], targets["placed"]))
        each = h.new_zeros(len(h), dtype=torch.float32)
        logits, raw = self.dense(h[cells])
        box = targets["box"][cells].nan_to_num()
        iou, generalised = overlaps(boxes_at(raw, targets["centre"][cells], self.typical), box)
        learnt, found = ids[cells] != _IGNORED, boxed[cells]
        classes = torch.arange(logits.shape[-1], device=h.device)
        quality = (ids[cells][..., None] == classes) * iou.detach()[..., None]
        kinds = quality_focal(logits, quality).sum(-1) * learnt
        dense = (kinds + self.options.size_weight * (1 - generalised) * found).sum(-1)
        label, label_known = ids[placed][:, 0], ids[placed][:, 0] >= 0
        named = F.cross_entropy(F.linear(h[placed], self.label_head).float(), label.clamp(min=0), reduction="none")
        middle = torch.zeros(len(label), 2, device=h.device)
        guess = boxes_at(self.place_head(h[placed]).float(), middle, self.typical)
        apart = 1 - overlaps(guess, targets["box"][placed][:, 0])[1]
        in_place = named * label_known + self.options.size_weight * apart * boxed[placed][:, 0]
        each = each.index_put((cells,), dense).index_put((placed,), in_place)
        return Loss((each * w).sum(), w.sum(), each.detach())

    def start(self, context: AnswerContext) -> State:
        on, device = context.read_positions, context.device
        self._side(on)
        nowhere = torch.zeros(context.n, 2, 3, device=device)  # where every picture is missing
        return {**context.state(), "frame": nowhere, **state_of(on, device)}

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        """Of every cell a `box` in pixels of the original [n, cells, (x, y, width, height)] and each class's `score`
        [n, cells, C], 0 where there is no picture."""
        n, P, _ = h.shape
        logits, raw = self.dense(h.flatten(0, 1))
        k = self.options.cells
        centre = torch.from_numpy(cell_centres(round(P**0.5), k)).to(h.device)
        boxes = boxes_at(raw.view(n, P, k**2, 4), centre, self.typical).clamp(-1, 1).flatten(1, 2)
        corners = torch.stack([boxes[..., [0, 0, 2, 2]], boxes[..., [1, 3, 1, 3]]], dim=-1)  # [n, cells, 4, xy]
        frame = state["frame"][:, None, None]
        pixels = (frame[..., :2] * corners[..., None, :]).sum(-1) + frame[..., 2]
        low = pixels.amin(2)
        box = torch.cat([low, pixels.amax(2) - low], dim=-1)
        score = logits.sigmoid().reshape(n, -1, logits.shape[-1]) * (state["lens"] > 0)[:, None, None]
        return {**state, "done": ~state["done"], "box": box, "score": score}

    def finish(self, state: State) -> list[Answer]:
        """The best of all cells and classes, without what overlaps a better one."""
        scores, C = state["score"].flatten(1), state["score"].shape[2]
        score, best = scores.topk(min(_CANDIDATES, scores.shape[1]), dim=1)
        ids, box = best % C, state["box"].gather(1, (best // C)[..., None].expand(-1, -1, 4))
        corners = torch.cat([box[..., :2], box[..., :2] + box[..., 2:]], dim=-1)
        keep = suppress(corners, ids, self.options.overlap) & (score >= max(self.options.least, 1e-6))
        keep &= keep.cumsum(1) <= self.options.most
        return [
            Answer(
                [
                    {"label": self.classes[i], "box": [round(x, 2) for x in b], "score": round(s, 4)}
                    for b, i, s in zip(*(found[k].tolist() for found in each), strict=True)
                ]
            )
            for *each, k in zip(box.cpu(), ids.cpu(), score.cpu(), keep.cpu(), strict=True)
        ]

    # -- evidence ----------------------------------------------------------------------------------------------------
    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        from onetrunk.metrics.detection import average_precision

        return average_precision(truths, [a.value for a in answers])

    def features(self) -> Any:
        """How many boxes of each class there are."""
        from sklearn.preprocessing import FunctionTransformer

        def counts(values: Sequence[Any]) -> np.ndarray:
            found = [Counter(label for label, _ in _usable_entries(v)) for v in values]
            return np.array([[count[name] for name in self.classes] for count in found], dtype=np.float64)

        return FunctionTransformer(counts)

    def baselines(self) -> dict[str, Any]:
        from onetrunk.metrics.detection import UsualBoxes

        return {"usual boxes": UsualBoxes()}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        out = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):
            out[i] = _entries(value)
        return out

    def figure(self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any) -> bool:
        from onetrunk.metrics.detection import precision_recall

        recall, curves = precision_recall(truths, [a.value for a in answers])
        for name, precision in curves.items():
            axes.plot(recall, precision, label=f"{name} {precision.mean():.2f}")
        axes.set_xlabel("share of the boxes found")
        axes.set_ylabel("share of the answered that are right")
        axes.set_ylim(0, 1.02)
        if curves:
            axes.legend(title="AP@.5")
        return bool(curves)


def _entries(value: Any) -> list[tuple[str, list[float]]]:
    """Label and box of every entry. Raises BadValueError."""
    if not isinstance(value, list | tuple):
        raise BadValueError(f"expected a list of boxes, found {type(value).__name__}")
    out = []
    for i, entry in enumerate(value):
        label, box = (entry.get("label"), entry.get("box")) if isinstance(entry, dict) else (None, None)
        numbers = isinstance(box, list | tuple | np.ndarray) and len(box) == 4
        numbers = numbers and all(isinstance(x, int | float | np.number) and np.isfinite(x) for x in box)
        if label is None or not numbers:
            raise BadValueError(
                f'box {i} should be like {{"label": "cat", "box": [x, y, width, height]}}, found {str(entry)[:80]}'
            )
        out.append((str(label), [float(x) for x in box]))
    return out


def _usable_entries(value: Any) -> list[tuple[str, list[float]]]:
    """Entries of a size; none where the value is missing or bad."""
    try:
        return [(label, box) for label, box in _entries(value or []) if min(box[2:]) > 0]
    except BadValueError:
        return []


CODEC = Boxes
