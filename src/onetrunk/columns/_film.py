"""Containers of films: opened by what they hold, never by their name, so that none of them can point elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onetrunk.core.errors import BadValueError, MissingExtraError

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


def kind_of(value: str | Path | bytes) -> str | None:
    """FFmpeg's name of the container; None where it is no film. Raises OSError for a path that cannot be read."""
    if isinstance(value, bytes):
        head = value[:16]
    else:
        with Path(value).open("rb") as file:
            head = file.read(16)
    return next((kind for at, magic, kind in _KINDS if head[at : at + len(magic)] == magic), None)


@contextmanager
def opened(value: str | Path | bytes, kind: str, name: str) -> Iterator[Any]:
    """A PyAV container. What goes wrong inside becomes a BadValueError."""
    try:
        import av
    except ImportError:
        raise MissingExtraError("av", "video", f"Reading {name}") from None
    try:
        with av.open(io.BytesIO(value) if isinstance(value, bytes) else str(value), format=kind) as container:
            yield container
    except av.FFmpegError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise BadValueError(f"{name} cannot be decoded to its end: {reason}") from None
