"""Pictures as pixels of one size: how they are prepared, cut in patches, and augmented in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from onetrunk.columns.families.media import fingerprint_of, opened_sample
from onetrunk.columns.families.patches.encoder import MirroredEncoder, PatchGrid, moved
from onetrunk.columns.families.patches.sketch import sketch_of_picture
from onetrunk.core import rng
from onetrunk.core.config import Config
from onetrunk.core.content import Content
from onetrunk.core.encoder import FileAnswers
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.media.image import SUFFIXES, Image, as_png, is_colour, is_image_file, open_image, png, resize, sheet

_SHEET_COLUMNS = 10
_PATCHES = 3.5  # a side at least; with twice as many at most, patches are of 2, 4, 8... pixels, which the stem halves
_COVERED, _GREY = 0.25, 128  # of the side, by the square that `train` tries
_SAMPLE = 200  # pictures that the size is learnt from


@dataclass(frozen=True)
class Preparation:
    """How a picture is brought to the column's size, and what stands before its patches: a checkpoint's way, or
    ours."""

    side: int  # pixels a side before the middle is cut out
    keep: bool = False  # of the shorter side: the picture keeps its shape; else of both
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = "bicubic"
    tokens: int = 0  # learnt, before the patches: ViT's class token
    clean_is_none: bool = False  # a picture without noise embeds no level of it: a checkpoint knows no levels

    def resized(self, sides: np.ndarray) -> np.ndarray:
        """Width and height [..., 2] to those before the middle is cut out."""
        if not self.keep:
            return np.full_like(sides, self.side)
        return self.side * sides.astype(np.int64) // sides.min(-1, keepdims=True)


class ImageEncoder(MirroredEncoder, FileAnswers):
    """Patches with one noise level each. Columns that are read on pictures are told `frame` float32 [m, 2, 3]: it takes
    a point of what is seen (x, y from -1 to 1 between the outer borders, and 1) to the same point of the original, in
    its pixels."""

    type_name = "image"

    class Options(Config):
        size: int | None = Field(None, ge=4, le=1024)  # pixels a side inside the model; None: from the training images
        patch: int | None = Field(None, ge=1, le=128)  # pixels a side of one patch; None: 4 to 7 patches a side
        mask_rate: float = Field(0.6, gt=0, le=1)  # share of patches masked (MAE, arXiv 2111.06377)
        rotate: float = Field(12.0, ge=0, le=180)  # augmentation in training: degrees,
        scale: float = Field(0.12, ge=0, lt=1)  # share of the size,
        shift: float = Field(0.1, ge=0, lt=1)  # share of the size,
        light: float = Field(0.1, ge=0, lt=1)  # brightness and contrast,
        flip: bool | None = None  # mirrored left to right: not for writing; None: `train` finds out, else not
        turn: bool = False  # mirrored top to bottom: where up and down mean nothing (cells, maps)
        # a grey square of this share of the side (cutout, arXiv 1708.04552); None: a quarter if `train` finds that it
        erase: float | None = Field(None, ge=0, lt=1)  # hides little, else none
        stem: int | None = Field(None, ge=0, le=1024)  # channels of the convolutional stem; 0: none; None: by the patch
        depth: int = Field(1, ge=1, le=16)  # residual blocks in each of the stem's stages

    options: Options
    size: int  # pixels a side inside the model
    patch: int  # pixels a side of one patch
    channels: int
    like: Preparation

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        return 1.0 if all(_looks_like_image(v) for v in values) else 0.0

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        sizes, modes, unreadable = [], set(), 0
        for image in opened_sample(values, open_image, _SAMPLE):
            if image is None:
                unreadable += 1
            else:
                sizes.append(image.size)
                modes.add("colour" if is_colour(image) else "grey")
        if not sizes:
            return {"readable": 0}
        smallest, largest = min(sizes, key=np.prod), max(sizes, key=np.prod)
        return {
            "smallest": f"{smallest[0]} × {smallest[1]} pixels",
            "largest": f"{largest[0]} × {largest[1]} pixels",
            "colours": " and ".join(sorted(modes)),
            "unreadable in the sample": unreadable,
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        return fingerprint_of(value, open_image, lambda image: f"{image.size} {image.mode}".encode() + image.tobytes())

    @classmethod
    def near_duplicate_key(cls, value: Any) -> str | None:
        """Which cells of an 8 × 9 thumbnail are darker than their right neighbour, and how light each is, coarsely."""
        try:
            small = np.asarray(resize(open_image(value).convert("L"), (9, 8)), dtype=np.int16)
        except BadValueError:
            return None
        return ((small[:, :-1] < small[:, 1:]).tobytes() + (small // 48).astype(np.uint8).tobytes()).hex()

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        try:
            image = open_image(value)
        except BadValueError as error:
            return {"text": str(error)}
        enlarged = max(1, 96 // max(image.size))
        image = resize(image, (image.width * enlarged, image.height * enlarged), "nearest")
        image.thumbnail((256, 256))
        return {"png": as_png(image)}

    media = "image"
    suffix = ".png"

    @classmethod
    def as_file(cls, answer: np.ndarray) -> bytes:
        return png([answer])

    @classmethod
    def sheet(cls, answers: Sequence[np.ndarray]) -> bytes | None:
        if len({answer.shape for answer in answers}) != 1:
            return None
        return png([sheet([answers[i : i + _SHEET_COLUMNS] for i in range(0, len(answers), _SHEET_COLUMNS)])])

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        sizes, colour = [], False
        for image in opened_sample(values, open_image, _SAMPLE):
            if image is not None:
                sizes.append(max(image.size))
                colour = colour or is_colour(image)
        if not sizes:
            raise DataError("An image column needs at least one readable image in the training rows; found none.")
        side = self.options.size or min(int(np.median(sizes)), 64)
        self.patch = self.options.patch or 2 ** max(1, int(math.log2(side / _PATCHES)))
        self.size = self.patch * max(1, -(-side // self.patch) if self.options.size is None else side // self.patch)
        self.channels = 3 if colour else 1
        self.like = Preparation(self.size)

    def knowledge(self) -> dict[str, Any]:
        known = {"size": self.size, "patch": self.patch, "channels": self.channels}
        return known if self.like == Preparation(self.size) else {**known, "like": asdict(self.like)}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.size, self.patch, self.channels = knowledge["size"], knowledge["patch"], knowledge["channels"]
        self.like = Preparation(**knowledge.get("like", {"side": self.size}))

    def sketch(self, pixels: np.ndarray) -> np.ndarray:
        return sketch_of_picture(pixels.reshape(self.grid.shape) / 255.0)

    @property
    def grid(self) -> PatchGrid:
        C, S, p = self.channels, self.size, self.patch
        return PatchGrid((C, S, S), (C, S // p, p, S // p, p), order=(1, 3, 2, 4, 0), patch_axes=2)

    @property
    def prefix_count(self) -> int:
        return self.like.tokens

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        image = open_image(value).convert("RGB" if self.channels == 3 else "L")
        sides = np.array(image.size, dtype=np.int32)
        whole = self.like.resized(sides)
        if image.size != tuple(whole):
            image = resize(image, whole.tolist(), self.like.resample)
        if tuple(whole) != (self.size, self.size):
            left, top = (whole - self.size) // 2
            image = image.crop((left, top, left + self.size, top + self.size))
        array = np.asarray(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)
        return {"pixels": np.ascontiguousarray(array.transpose(2, 0, 1)), "sides": sides}

    def blank(self) -> dict[str, np.ndarray]:
        pixels = np.zeros((self.channels, self.size, self.size), dtype=np.uint8)
        return {"pixels": pixels, "sides": np.array([self.size, self.size], dtype=np.int32)}

    def value(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [H, W] or [H, W, 3]."""
        return pixels[0] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def noise(self, keys: np.ndarray) -> np.ndarray:
        return self.grid.cut(rng.normal(rng.mix(keys, "noise"), *self.grid.shape))

    def facts(self, arrays: dict[str, np.ndarray], maps: np.ndarray) -> dict[str, np.ndarray]:
        share = self.size / self.like.resized(arrays["sides"])  # of the original that is seen
        frame = maps * share[:, :, None].astype(np.float32)
        frame[:, :, 2] += 1
        return {"frame": frame * (arrays["sides"][:, :, None] / 2).astype(np.float32)}

    def augmented(self, x: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A keyed affine map, light and contrast for each image; the whole batch at once."""
        o, u = self.options, 2 * rng.uniform(rng.mix(keys, "augment"), 8) - 1
        angle, scale = np.deg2rad(o.rotate) * u[:, 0], 1 + o.scale * u[:, 1]
        mirror = np.where(u[:, 2] < 0, -1.0, 1.0) if o.flip else 1.0
        turned = np.where(u[:, 7] < 0, -1.0, 1.0) if o.turn else 1.0
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        move = 2 * o.shift * u[:, 3:5]
        rows = np.stack([cos * mirror, -sin * turned, move[:, 0], sin * mirror, cos * turned, move[:, 1]], axis=1)
        maps = rows.reshape(-1, 2, 3).astype(np.float32)
        contrast, brightness = 1 + o.light * u[:, 5], o.light * u[:, 6]
        lit = moved(x, maps) * contrast[:, None, None, None] + brightness[:, None, None, None]
        return self._erased(np.clip(lit, -1, 1).astype(np.float32, copy=False), keys), maps

    def _erased(self, x: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Each picture with its square of grey."""
        if not self.options.erase:
            return x
        return np.where(self._squares(self.options.erase, keys), np.float32(0), x)

    def _squares(self, share: float, keys: np.ndarray) -> np.ndarray:
        """bool [m, 1, H, W]: a square of this share of the side in each picture, which may reach over the border."""
        side = round(share * self.size)
        first = rng.integers(rng.mix(keys, "erase"), self.size, 2)[..., None] - side // 2
        there = np.arange(self.size)
        rows, columns = np.moveaxis((there >= first) & (there < first + side), 1, 0)
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    def undecided(self) -> Mapping[str, str]:
        return {**super().undecided(), **({"erase": "partly covered"} if self.options.erase is None else {})}

    def changed(self, content: Content, change: str) -> Content:
        if change != "erase":
            return super().changed(content, change)
        arrays = content.gather()
        covered = self._squares(_COVERED, rng.mix(rng.key(0, "covered"), np.arange(len(content))))
        return Content({**arrays, "pixels": np.where(covered, np.uint8(_GREY), arrays["pixels"])})

    def decide(self, change: str, allowed: bool) -> None:
        if change != "erase":
            return super().decide(change, allowed)
        self.options = self.options.model_copy(update={"erase": _COVERED if allowed else 0.0})


def _looks_like_image(value: Any) -> bool:
    if isinstance(value, Image):
        return True
    if isinstance(value, dict):
        return "bytes" in value and str(value.get("path") or SUFFIXES[0]).lower().endswith(SUFFIXES)
    if isinstance(value, np.ndarray):
        return value.ndim in (2, 3)
    if isinstance(value, bytes):
        return is_image_file(value)
    return isinstance(value, Path) and value.name.lower().endswith(SUFFIXES)
