"""How large files from outside may be once they are decoded. A server, which opens strangers' files, allows less."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class MediaLimits:
    """Of one file."""

    pixels: int = 100_000_000  # of a picture, or of one frame
    samples: int = 200_000_000  # of a recording, all channels together: an hour in stereo at 22 kHz and more
    frames: int = 200_000  # of a film: two hours at 25 a second


_USUAL = MediaLimits()
media_limits: ContextVar[MediaLimits] = ContextVar("media_limits", default=_USUAL)
