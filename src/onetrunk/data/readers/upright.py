"""Boxes in pictures that are seen upright and in their own size, where they were drawn in pictures as they were stored.

Telephones store a picture as the sensor lay and note in its EXIF how it was held; annotations count pixels of one or
the other, and some of a picture of another size. The size that an annotation names tells which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from onetrunk.core.errors import BadValueError, DataError
from onetrunk.data.readers.common import Notes
from onetrunk.media.image import size_and_orientation

Size = tuple[float, float]
Boxes = list[dict[str, Any]]

_SAME_SHAPE = 0.02  # by which the shares of width and height may differ in a picture that was scaled
_STORED, _UPRIGHT, _EITHER = "stored", "upright", "either"


def upright_boxes(
    pictures: Sequence[Path], boxes: Sequence[Boxes], named: Sequence[Size | None], where: str, notes: Notes
) -> list[Boxes]:
    """Each picture's boxes, `{"label", "box": [x, y, width, height]}`, in pixels of the upright picture; `named` are
    the sizes of the annotations. Raises DataError where one is the size of no such picture."""
    shapes = [_shape(path) for path in pictures]
    views = [_view(shape, size, path, where) for shape, size, path in zip(shapes, named, pictures, strict=True)]
    counts = Counter(views)
    unclear = sum(v == _EITHER and s is not None and s[1] != 1 for v, s in zip(views, shapes, strict=True))
    others = _STORED if counts[_STORED] > counts[_UPRIGHT] else _UPRIGHT
    out, turned, scaled = [], 0, 0
    for own, shape, size, own_view in zip(boxes, shapes, named, views, strict=True):
        view = others if own_view == _EITHER else own_view
        if shape is not None:
            (width, height), orientation = shape
            if view == _UPRIGHT and orientation >= 5:
                width, height = height, width
            if size is not None and size != (width, height):
                own, scaled = _mapped(own, partial(_scale, by=(width / size[0], height / size[1]))), scaled + 1
            if view == _STORED and orientation != 1:
                own = _mapped(own, partial(turn, width=width, height=height, orientation=orientation))
                turned += 1
        out.append(own)
    if turned:
        notes.append(f"{where}: the boxes of {turned:,} pictures were turned with them, as their EXIF says.")
    if scaled:
        notes.append(f"{where}: the boxes of {scaled:,} pictures were scaled to the pictures' own size.")
    if unclear:
        notes.append(
            f"{where}: of {unclear:,} pictures with an EXIF orientation nothing tells whether their boxes were drawn "
            f"before or after it; they were taken for {'stored' if others == _STORED else 'upright'} ones."
        )
    return out


def _shape(path: Path) -> tuple[Size, int] | None:
    """As stored; None where it cannot be read, of which the ledger will tell."""
    try:
        return size_and_orientation(path)
    except BadValueError:
        return None


def _view(shape: tuple[Size, int] | None, named: Size | None, path: Path, where: str) -> str:
    """Of which picture the annotation counts pixels."""
    if shape is None or named is None:
        return _EITHER
    (width, height), orientation = shape
    upright = (height, width) if orientation >= 5 else (width, height)
    for alike in (_equal, _same_shape):
        is_stored, is_upright = alike(named, (width, height)), alike(named, upright)
        if is_stored or is_upright:
            return _EITHER if is_stored and is_upright else _STORED if is_stored else _UPRIGHT
    raise DataError(
        f"{where} says that {path.name} has {named[0]:g} × {named[1]:g} pixels; it has {upright[0]:g} × "
        f"{upright[1]:g}. Its boxes are of another picture: mend the annotation, or leave it out."
    )


def _equal(named: Size, actual: Size) -> bool:
    return named == actual


def _same_shape(named: Size, actual: Size) -> bool:
    return min(named) > 0 and abs(named[0] * actual[1] / (named[1] * actual[0]) - 1) <= _SAME_SHAPE


def _mapped(boxes: Boxes, change: Callable[[list[float]], list[float]]) -> Boxes:
    """What is no box of four numbers stays as it is: the ledger will tell of it."""
    return [{**b, "box": change(b["box"])} if _is_box(b["box"]) else b for b in boxes]


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)


def _scale(box: Sequence[float], by: Size) -> list[float]:
    return [value * factor for value, factor in zip(box, by * 2, strict=True)]


def turn(box: Sequence[float], width: float, height: float, orientation: int) -> list[float]:
    """A box in a stored picture of this size, in the picture that its EXIF orientation makes of it."""
    x, y, w, h = box
    right, below = width - x - w, height - y - h
    return {
        2: [right, y, w, h],
        3: [right, below, w, h],
        4: [x, below, w, h],
        5: [y, x, h, w],
        6: [below, x, h, w],
        7: [below, right, h, w],
        8: [y, right, h, w],
    }.get(orientation, [x, y, w, h])
