"""Boxes drawn on their picture, for a person."""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

from PIL import ImageDraw

from onetrunk.columns.boxes.values import entries_of
from onetrunk.core.errors import BadValueError
from onetrunk.media.image import Image, as_png, open_image, resize

_MIN_SCORE_DRAWN = 0.3  # from which an answered box is drawn and counted
_SIDE = 512  # pixels, at most, and at least about half of them
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito 2008


def drawn(value: Any, picture: Any) -> dict[str, str]:
    """`{"png": base64}`, or `{"text": ...}` of the labels where there is no readable picture."""
    surest = [
        (label, box, written.get("score"))
        for (label, box), written in zip(entries_of(value), value, strict=True)
        if written.get("score", 1) >= _MIN_SCORE_DRAWN
    ]
    image = _readable(picture)
    if image is None:
        counts = Counter(label for label, _, _ in surest)
        return {"text": ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing"}
    factor = _SIDE / max(image.size)
    factor = factor if factor < 1 else int(factor)  # whole pixels
    sides = (max(1, round(side * factor)) for side in image.size)
    image = resize(image, tuple(sides), "bilinear")
    pen = ImageDraw.Draw(image)
    for label, (x, y, w, h), score in surest:
        colour = _COLOURS[zlib.crc32(label.encode()) % len(_COLOURS)]
        pen.rectangle((x * factor, y * factor, (x + w) * factor, (y + h) * factor), outline=colour, width=2)
        caption = label if score is None else f"{label} {score:.2f}"
        corner = (x * factor + 3, y * factor + 1)
        pen.rectangle(pen.textbbox(corner, caption), fill=colour)
        pen.text(corner, caption, fill="white")
    return {"png": as_png(image)}


def _readable(picture: Any) -> Image | None:
    try:
        return None if picture is None else open_image(picture).convert("RGB")
    except BadValueError:
        return None
