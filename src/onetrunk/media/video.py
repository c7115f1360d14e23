"""Films and their frames. A container is opened by its content, never by its name, so that none can point elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.errors import BadValueError, MissingExtraError
from onetrunk.media.limits import media_limits
from onetrunk.media.source import as_file, source_of

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".flv", ".mpg", ".mpeg", ".ogv")
MAX_SIDE = 256  # pixels: what is larger is made smaller while reading
_MAX_PIXELS = 40_000_000  # of one frame
_KEPT = 64  # frames kept while reading, at least: every frame at first, then every other, every fourth, ...

# Where in a file which bytes stand, and FFmpeg's name for that. Playlists, which name other files, are not among them.
_KINDS = (
    (4, b"ftyp", "mp4"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b"OggS", "ogg"),
    (0, b"GIF8", "gif"),
    (0, b"\x89PNG", "apng"),
)


def container_of(value: str | Path | bytes) -> str | None:
    """FFmpeg's name of the container; None where it is no film. Raises OSError for a path that cannot be read."""
    if isinstance(value, bytes):
        head = value[:16]
    else:
        with Path(value).open("rb") as file:
            head = file.read(16)
    return next((kind for at, magic, kind in _KINDS if head[at : at + len(magic)] == magic), None)


@contextmanager
def opened_container(value: str | Path | bytes, kind: str, name: str) -> Iterator[Any]:
    """A PyAV container. What goes wrong inside becomes a BadValueError."""
    try:
        import av
    except ImportError:
        raise MissingExtraError("av", "video", f"Reading {name}") from None
    try:
        with av.open(as_file(value), format=kind) as container:
            yield container
    except av.FFmpegError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise BadValueError(f"{name} cannot be decoded to its end: {reason}") from None


def open_video(value: Any) -> np.ndarray:
    """A path, bytes, a `{"bytes", "path"}` dict, or an array [frames, H, W] or [frames, H, W, 1 or 3], uint8 or floats
    from 0 to 1: frames evenly over the whole, uint8 [t, H, W, 3], at most 256 pixels a side; all of a short film, 64 to
    127 of a longer one.

    Raises BadValueError with the reason.
    """
    if isinstance(value, np.ndarray):
        return frames_of(value)
    source, name = source_of(value, "a film")
    try:
        kind = container_of(source)
    except OSError:
        raise BadValueError(f"{name}: no such file") from None
    if kind is None:
        raise BadValueError(f"{name} is not a film of a known kind")
    with opened_container(source, kind, name) as film:
        if not film.streams.video:
            raise BadValueError(f"{name} has no picture")
        stream = film.streams.video[0]
        limits = media_limits.get()
        if stream.width * stream.height > (most := min(_MAX_PIXELS, limits.pixels)):
            raise BadValueError(f"{name}: {stream.width} × {stream.height} pixels a frame; at most {most:,}")
        kept: list[np.ndarray] = []
        every = 1
        for i, frame in enumerate(film.decode(stream)):
            if i >= limits.frames:
                raise BadValueError(f"{name} is too long: more than {limits.frames:,} frames")
            if i % every == 0:
                kept.append(frame.reformat(*_smaller(frame.width, frame.height), format="rgb24").to_ndarray())
            if len(kept) == 2 * _KEPT:
                kept, every = kept[::2], 2 * every
    if not kept:
        raise BadValueError(f"{name} has no frame")
    return np.stack(kept)


def _smaller(width: int, height: int) -> tuple[int, int]:
    share = min(1.0, MAX_SIDE / max(width, height))
    return max(1, round(width * share)), max(1, round(height * share))


def frames_of(array: np.ndarray) -> np.ndarray:
    """An array [frames, H, W] or [frames, H, W, 1 or 3] as uint8 [frames, H, W, 3]. Raises BadValueError."""
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or not array.size:
        raise BadValueError(f"expected an array [frames, H, W, 1 or 3], found shape {list(array.shape)}")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise BadValueError(f"expected uint8, or floats from 0 to 1; found {array.dtype} outside that range")
        array = (array * 255).round().astype(np.uint8)
    return array.repeat(3 // array.shape[3], axis=3)
