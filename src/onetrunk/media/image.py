"""Pictures as files, bytes and arrays: opened, resized, laid out side by side, written as PNG."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, ImageOps
from PIL import Image as Pillow

from onetrunk.core.errors import BadValueError
from onetrunk.media.limits import media_limits
from onetrunk.media.source import as_file, source_of

Image = Pillow.Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

_BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*")  # of such files


def is_image_file(content: bytes) -> bool:
    """Do these bytes begin as a picture's file does?"""
    return content.startswith(_BEGINNINGS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def open_image(value: Any) -> Pillow.Image:
    """A path, bytes, a `{"bytes", "path"}` dict, an array [H, W] or [H, W, 3], or a Pillow image, decoded.

    Arrays are uint8, or floats from 0 to 1. Raises BadValueError with the reason.
    """
    if isinstance(value, Pillow.Image):
        return _plain(value)
    if isinstance(value, np.ndarray):
        return _from_array(value)
    source, name = source_of(value, "an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            image = Pillow.open(as_file(source), formats=FORMATS)
            if image.width * image.height > (most := media_limits.get().pixels):
                raise BadValueError(f"{name}: {image.width} × {image.height} pixels; at most {most:,}")
            image.load()
    except BadValueError:
        raise
    except FileNotFoundError:
        raise BadValueError(f"{name}: no such file") from None
    except (OSError, SyntaxError, ValueError, Warning, Pillow.DecompressionBombError) as error:
        raise BadValueError(f"{name} is not a readable image ({type(error).__name__})") from None
    return _plain(image)


def size_and_orientation(path: Path) -> tuple[tuple[int, int], int]:
    """Width and height of a picture as it is stored, and its EXIF orientation, 1 to 8 (1: it is upright), without
    reading its pixels. Raises BadValueError where it is no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path, formats=FORMATS) as image:
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
                return image.size, orientation if orientation in range(1, 9) else 1
    except (OSError, SyntaxError, ValueError, Warning, Pillow.DecompressionBombError) as error:
        raise BadValueError(f"{path} is not a readable image ({type(error).__name__})") from None


def _plain(image: Pillow.Image) -> Pillow.Image:
    """8-bit grey or colour, upright (a telephone only notes how it was held); what is transparent becomes white."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "F" or image.mode.startswith("I"):  # fractions; 16 and 32 bits
        array = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = next((top for top in (1.0, 255.0) if array.max() <= top and (top > 1 or image.mode == "F")), 65535.0)
        return Pillow.fromarray((array / top * 255).clip(0, 255).round().astype(np.uint8))
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Pillow.new("RGBA", image.size, "white")
        image = Pillow.alpha_composite(white, image)
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_array(array: np.ndarray) -> Pillow.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise BadValueError(f"expected an array [H, W] or [H, W, 3], found shape {list(array.shape)}")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise BadValueError(f"expected uint8, or floats from 0 to 1; found {array.dtype} outside that range")
        array = (array * 255).round().astype(np.uint8)
    return Pillow.fromarray(array)


def resize(image: Pillow.Image | np.ndarray, size: Sequence[int], how: str = "box") -> Pillow.Image:
    """In another size, (width, height), by one of Pillow's filters: nearest, box, bilinear, bicubic or lanczos."""
    image = Pillow.fromarray(image) if isinstance(image, np.ndarray) else image
    width, height = size
    return image.resize((int(width), int(height)), Pillow.Resampling[how.upper()])


def as_png(image: Pillow.Image) -> str:
    """A PNG file in base64."""
    return base64.b64encode(png([np.asarray(image)])).decode()


def png(pictures: Sequence[np.ndarray], duration: float = 0) -> bytes:
    """A PNG file of uint8 [H, W] or [H, W, 3]; of several a moving one, each shown for `duration` milliseconds, again
    and again."""
    file = io.BytesIO()
    first, *rest = map(Pillow.fromarray, pictures)
    moving = {"save_all": True, "append_images": rest, "duration": duration, "loop": 0} if rest else {}
    first.save(file, format="PNG", **moving)
    return file.getvalue()


def is_colour(image: Pillow.Image) -> bool:
    """Does any part of it have a colour that an eye would see?"""
    if image.mode == "L":
        return False
    small = np.asarray(image.resize((16, 16)), dtype=np.int16)
    return bool((small.max(-1) - small.min(-1)).max() > 12)


def sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures of one shape in rows, on white: uint8 [H, W] or [H, W, 3]."""
    first = rows[0][0]
    across, (height, width) = max(map(len, rows)), first.shape[:2]
    out = np.full((len(rows) * (height + 1) + 1, across * (width + 1) + 1, *first.shape[2:]), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            top, left = i * (height + 1) + 1, j * (width + 1) + 1
            out[top : top + height, left : left + width] = picture
    return out
