"""Films as a few frames of one size, cut in patches of a few frames each (ViViT, arXiv 2103.15691)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.families.media import fingerprint_of, opened_sample
from onetrunk.columns.families.patches.encoder import MirroredEncoder, PatchGrid, moved
from onetrunk.columns.families.patches.sketch import cell_means
from onetrunk.core import rng
from onetrunk.core.config import Config
from onetrunk.core.encoder import FileAnswers
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.media.image import open_image, png, resize
from onetrunk.media.video import MAX_SIDE, SUFFIXES, frames_of, open_video

_SAMPLE = 50  # films that the size is learnt from
_SEEN_CELLS, _SEEN_FRAMES = 8, 4  # a side of a frame, and frames, that simple models see at most
_FRAME_TIME = 150  # milliseconds that a frame is shown


class VideoEncoder(MirroredEncoder, FileAnswers):
    """Patches with one noise level each, as images have."""

    type_name = "video"

    class Options(Config):
        frames: int = Field(8, ge=1, le=256)  # that the model sees, evenly over the film
        size: int | None = Field(None, ge=8, le=256)  # pixels a side inside the model; None: the films', 48 at most
        patch: int | None = Field(None, ge=1, le=128)  # pixels a side of one patch; None: 4 patches a side
        tube: int = Field(2, ge=1, le=64)  # frames of one patch
        mask_rate: float = Field(0.75, gt=0, le=1)  # share of patches masked (VideoMAE, arXiv 2203.12602)
        scale: float = Field(0.1, ge=0, lt=1)  # augmentation in training: share of the size,
        shift: float = Field(0.1, ge=0, lt=1)  # share of the size,
        light: float = Field(0.1, ge=0, lt=1)  # brightness and contrast,
        flip: bool | None = None  # mirrored left to right; None: `train` finds out, else not
        stem: int = Field(16, ge=1, le=1024)  # channels of the convolutional stem's first stage, on each frame

    options: Options
    size: int  # pixels a side inside the model
    patch: int  # pixels a side of one patch
    channels: int

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        return 1.0 if all(_looks_like_film(v) for v in values) else 0.0

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        sides, unreadable = [], 0
        for frames in opened_sample(values, open_video, _SAMPLE):
            if frames is None:
                unreadable += 1
            else:
                sides.append(max(frames.shape[1:3]))
        if not sides:
            return {"readable": 0}
        return {
            f"pixels a side, at most {MAX_SIDE} are read": f"{min(sides)} to {max(sides)}",
            "unreadable in the sample": unreadable,
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        return fingerprint_of(value, open_video, lambda frames: f"{frames.shape}".encode() + frames.tobytes())

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        """A moving picture."""
        try:
            frames = open_video(value)
        except BadValueError as error:
            return {"text": str(error)}
        frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), 8)).round().astype(np.int64)]
        larger = max(1, 96 // max(frames.shape[1:3]))
        pictures = [open_image(f) for f in frames.repeat(larger, axis=1).repeat(larger, axis=2)]
        for picture in pictures:
            picture.thumbnail((256, 256))
        moving = png([np.asarray(picture) for picture in pictures], _FRAME_TIME)
        return {"png": base64.b64encode(moving).decode()}

    media = "video"
    suffix = ".png"

    @classmethod
    def as_file(cls, answer: np.ndarray) -> bytes:
        return png(list(answer), _FRAME_TIME)

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        sides, colour = [], False
        for frames in opened_sample(values, open_video, _SAMPLE):
            if frames is not None:
                sides.append(max(frames.shape[1:3]))
                apart = frames[:: max(1, len(frames) // 8), ::4, ::4].astype(np.int16)
                colour = colour or int(np.ptp(apart, axis=-1).max()) > 24
        if not sides:
            raise DataError("A video column needs at least one readable film in the training rows; found none.")
        side = self.options.size or min(int(np.median(sides)), 48)
        self.patch = self.options.patch or max(2, side // 4)
        self.size = self.patch * max(1, side // self.patch)
        self.channels = 3 if colour else 1

    def knowledge(self) -> dict[str, Any]:
        return {"size": self.size, "patch": self.patch, "channels": self.channels}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.size, self.patch, self.channels = knowledge["size"], knowledge["patch"], knowledge["channels"]

    def sketch(self, pixels: np.ndarray) -> np.ndarray:
        """Of pixels [T, C, H, W]; at most 768."""
        cells = min(_SEEN_CELLS, self.size)
        frames = cell_means(pixels / 255.0, min(_SEEN_FRAMES, len(pixels)), axis=0)
        return cell_means(cell_means(frames, cells, axis=2), cells, axis=3).reshape(-1)

    @property
    def grid(self) -> PatchGrid:
        """Over time, down and across; of frames that fill no patch the last is repeated."""
        C, k, p, side = self.channels, self.options.tube, self.patch, self.size // self.patch
        t = -(-self.options.frames // k)
        shape = (t * k, C, self.size, self.size)
        return PatchGrid(shape, (t, k, C, side, p, side, p), order=(0, 3, 5, 1, 2, 4, 6), patch_axes=3)

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        frames = open_video(value)
        frames = frames[np.linspace(0, len(frames) - 1, self.options.frames).round().astype(np.int64)]
        mode = "RGB" if self.channels == 3 else "L"
        small = [resize(open_image(f).convert(mode), (self.size, self.size)) for f in frames]
        pixels = np.stack([np.asarray(f, dtype=np.uint8) for f in small]).reshape(len(small), self.size, self.size, -1)
        return {"pixels": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}

    def blank(self) -> dict[str, np.ndarray]:
        return {"pixels": np.zeros((self.options.frames, self.channels, self.size, self.size), dtype=np.uint8)}

    def value(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [frames, side, side, 3]."""
        return frames_of(pixels[: self.options.frames].transpose(0, 2, 3, 1))

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def whole(self, x: np.ndarray) -> np.ndarray:
        missing = self.grid.shape[0] - self.options.frames
        return np.concatenate([x, x[:, -1:].repeat(missing, axis=1)], axis=1) if missing else x

    def augmented(self, x: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each film moved, enlarged, mirrored and lit in its own way, all its frames alike."""
        o, u = self.options, 2 * rng.uniform(rng.mix(keys, "augment"), 6) - 1
        scale, mirror = 1 + o.scale * u[:, 0], np.where(u[:, 1] < 0, -1.0, 1.0) if o.flip else 1.0
        maps = np.zeros((len(x), 2, 3), dtype=np.float32)
        maps[:, 0, 0], maps[:, 1, 1] = mirror / scale, 1 / scale
        maps[:, :, 2] = 2 * o.shift * u[:, 2:4]
        m, t, C, height, width = x.shape
        frames = moved(x.reshape(m, t * C, height, width), maps).reshape(x.shape)
        light = o.light * u[:, 4:].reshape(-1, 2, 1, 1, 1, 1)
        return np.clip(frames * (1 + light[:, 0]) + light[:, 1], -1, 1).astype(np.float32), maps


def _looks_like_film(value: Any) -> bool:
    if isinstance(value, dict):
        return "bytes" in value and str(value.get("path") or "").lower().endswith(SUFFIXES)
    if isinstance(value, np.ndarray):
        return value.ndim == 4
    return isinstance(value, Path) and value.name.lower().endswith(SUFFIXES)
