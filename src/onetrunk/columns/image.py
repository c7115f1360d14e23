"""Images of any size, grey or colour: brought to one size, cut in patches; read, completed or drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Pillow
from pydantic import Field
from torch import Tensor, nn

from onetrunk.columns._pictures import as_png, open_image
from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.column import Codec
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.nn.convolution import ResidualStages
from onetrunk.nn.heads.flow import WAVES, denoised, noisy, ode_step, waves, weight

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_ACROSS = 10  # pictures in a row of a figure


@dataclass(frozen=True)
class Preparation:
    """How a picture is brought to the codec's size, and what stands before its patches: a checkpoint's way, or ours."""

    side: int  # pixels a side before the middle is cut out
    keep: bool = False  # of the shorter side: the picture keeps its shape; else of both
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = "bicubic"
    tokens: int = 0  # learnt, before the patches: ViT's class token

    def resized(self, sides: np.ndarray) -> np.ndarray:
        """Width and height [..., 2] to those before the middle is cut out."""
        if not self.keep:
            return np.full_like(sides, self.side)
        return self.side * sides.astype(np.int64) // sides.min(-1, keepdims=True)


class Image(Codec):
    """Patches with one noise level each: given 1, hidden 0, between: denoising. A stem sees across borders."""

    parts = True
    shared = True
    guided = True

    class Options(Config):
        size: int | None = Field(None, ge=4, le=1024)  # pixels a side inside the model; None: from the training images
        patch: int | None = Field(None, ge=1, le=128)  # pixels a side of one patch; None: about 8 patches a side
        hide: float = Field(0.6, gt=0, le=1)  # share of patches hidden when masked (MAE, arXiv 2111.06377)
        rotate: float = Field(12.0, ge=0, le=180)  # augmentation in training: degrees,
        scale: float = Field(0.12, ge=0, lt=1)  # share of the size,
        shift: float = Field(0.1, ge=0, lt=1)  # share of the size,
        light: float = Field(0.1, ge=0, lt=1)  # brightness and contrast,
        flip: bool = False  # mirrored left to right: not for writing
        turn: bool = False  # mirrored top to bottom: where up and down mean nothing (cells, maps)
        erase: float = Field(0.0, ge=0, lt=1)  # a grey square of this share of the side (cutout, arXiv 1708.04552)
        stem: int | None = Field(None, ge=0, le=1024)  # channels of the convolutional stem; 0: none; None: by the patch
        depth: int = Field(1, ge=1, le=16)  # residual blocks in each of the stem's stages

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        return 1.0 if all(_looks_like_image(v) for v in values) else 0.0

    def fit(self, values: Sequence[Any]) -> None:
        sizes, colour = [], False
        for value in values[:: max(1, len(values) // 200)]:
            try:
                image = open_image(value)
            except BadValueError:
                continue
            sizes.append(max(image.size))
            colour = colour or _is_colour(image)
        if not sizes:
            raise DataError("An image column needs at least one readable image in the training rows; found none.")
        side = self.options.size or min(int(np.median(sizes)), 64)
        self.patch = self.options.patch or max(2, round(side / 8))
        self.size = self.patch * max(1, -(-side // self.patch) if self.options.size is None else side // self.patch)
        self.channels = 3 if colour else 1
        self.like = Preparation(self.size)

    def knowledge(self) -> dict[str, Any]:
        known = {"size": self.size, "patch": self.patch, "channels": self.channels}
        return known if self.like == Preparation(self.size) else {**known, "like": asdict(self.like)}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.size, self.patch, self.channels = knowledge["size"], knowledge["patch"], knowledge["channels"]
        self.like = Preparation(**knowledge.get("like", {"side": self.size}))

    @property
    def count(self) -> int:
        """Patches of one image."""
        return (self.size // self.patch) ** 2

    def _stem_width(self) -> int:
        """Patches of few pixels have no inner structure for convolutions to find."""
        return self.options.stem if self.options.stem is not None else (0 if self.patch <= 2 else 32)

    def build(self, width: int) -> None:
        stem = self._stem_width()
        self.stem = ResidualStages(self.channels, stem, self.patch, self.options.depth) if stem else nn.Identity()
        inner, cell = (self.stem.channels_out, self.stem.rest) if stem else (self.channels, self.patch)
        self.to_width = nn.Conv2d(inner, width, cell, stride=cell)
        if self.like.tokens:
            self.first = nn.Parameter(torch.randn(self.like.tokens, width) * 0.05)
        self.place = nn.Parameter(torch.randn(self.like.tokens + self.count, width) * 0.05)
        self.level = nn.Linear(WAVES, width)
        self.head = nn.Linear(width, self.patch**2 * self.channels)
        nn.init.zeros_(self.head.weight)

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        sizes, modes, unreadable = [], set(), 0
        for value in values[:: max(1, len(values) // 200)]:
            try:
                image = open_image(value)
            except BadValueError:
                unreadable += 1
                continue
            sizes.append(image.size)
            modes.add("colour" if _is_colour(image) else "grey")
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
        try:
            image = open_image(value)
        except BadValueError:
            return f"unreadable {value!r}"
        return hashlib.sha1(f"{image.size} {image.mode}".encode() + image.tobytes()).hexdigest()

    @classmethod
    def near(cls, value: Any) -> str | None:
        """Which cells of an 8 × 9 thumbnail are darker than their right neighbour, and how light each is, coarsely."""
        try:
            small = np.asarray(open_image(value).convert("L").resize((9, 8), Pillow.Resampling.BOX), dtype=np.int16)
        except BadValueError:
            return None
        return ((small[:, :-1] < small[:, 1:]).tobytes() + (small // 48).astype(np.uint8).tobytes()).hex()

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        image = open_image(value).convert("RGB" if self.channels == 3 else "L")
        sides = np.array(image.size, dtype=np.int32)
        seen = self.like.resized(sides)
        if image.size != tuple(seen):
            image = image.resize(tuple(seen), Pillow.Resampling[self.like.resample.upper()])
        if tuple(seen) != (self.size, self.size):
            left, top = (seen - self.size) // 2
            image = image.crop((left, top, left + self.size, top + self.size))
        array = np.asarray(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)
        return {"pixels": np.ascontiguousarray(array.transpose(2, 0, 1)), "sides": sides}

    def blank(self) -> dict[str, np.ndarray]:
        pixels = np.zeros((self.channels, self.size, self.size), dtype=np.uint8)
        return {"pixels": pixels, "sides": np.array([self.size, self.size], dtype=np.int32)}

    def positions(self, content: Content) -> np.ndarray:
        return np.full(len(content), self.like.tokens + self.count, dtype=np.int64)

    # -- parts to positions ------------------------------------------------------------------------------------------
    def segment(self, content: Content, role: Role, keys: np.ndarray, augment: bool = False) -> Segment:
        m, P = len(content), self.count
        parts = content.gather()
        x, moved = parts["pixels"].astype(np.float32) / 127.5 - 1, np.tile(np.eye(2, 3, dtype=np.float32), (m, 1, 1))
        if augment and m and role != Role.ASKED:  # a drawing should look like the data, not like its distortions
            x, moved = self._augment(x, keys)
        share = self.size / self.like.resized(parts["sides"])  # of the original that is seen
        frame = _in_pixels(moved * share[:, :, None].astype(np.float32), parts["sides"])
        lens = self.positions(content)
        level = np.ones((m, P), dtype=np.float32)
        if role == Role.GIVEN:
            return Segment({"pixels": x, "level": level, "frame": frame}, lens)
        if role == Role.ASKED:  # one level a picture; more often low, where the drawing is decided
            level *= rng.uniform(rng.mix(keys, "level"), 1) ** 1.5
        else:
            level -= rng.uniform(rng.mix(keys, "hide"), P) < self.options.hide
        side = self.size // self.patch
        grid = level.reshape(m, 1, side, side).repeat(self.patch, 2).repeat(self.patch, 3)
        shown = noisy(x, rng.normal(rng.mix(keys, "noise"), *x.shape[1:]), grid)
        reads = np.flatnonzero(level.reshape(-1) < 1)
        targets = {
            "patch": self._patches(x)[reads],
            "velocity": weight(level.reshape(-1)[reads]).astype(np.float32),
            "w": np.ones(len(reads), dtype=np.float32),
        }
        reads += self.like.tokens * (reads // P + 1)  # patches stand after the tokens
        return Segment({"pixels": shown, "level": level, "frame": frame}, lens, reads=reads, targets=targets)

    def _patches(self, x: np.ndarray) -> np.ndarray:
        """[m, C, S, S] to [m * P, p * p * C]."""
        m, C, S, p = len(x), self.channels, self.size, self.patch
        cut = x.reshape(m, C, S // p, p, S // p, p).transpose(0, 2, 4, 3, 5, 1)
        return np.ascontiguousarray(cut).reshape(-1, p * p * C)

    def _pixels(self, patches: Tensor) -> Tensor:
        """[n, P, p * p * C] to [n, C, S, S]."""
        n, C, p, side = len(patches), self.channels, self.patch, self.size // self.patch
        grid = patches.view(n, side, side, p, p, C).permute(0, 5, 1, 3, 2, 4)
        return grid.reshape(n, C, self.size, self.size)

    def _augment(self, x: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A keyed affine map, light and contrast for each image; the whole batch at once. Also the maps [m, 2, 3],
        from what is seen to the original, both from -1 to 1."""
        o, u = self.options, 2 * rng.uniform(rng.mix(keys, "augment"), 8) - 1
        angle, scale = np.deg2rad(o.rotate) * u[:, 0], 1 + o.scale * u[:, 1]
        mirror = np.where(u[:, 2] < 0, -1.0, 1.0) if o.flip else 1.0
        turned = np.where(u[:, 7] < 0, -1.0, 1.0) if o.turn else 1.0
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        move = 2 * o.shift * u[:, 3:5]
        theta = np.stack([cos * mirror, -sin * turned, move[:, 0], sin * mirror, cos * turned, move[:, 1]], axis=1)
        theta = theta.reshape(-1, 2, 3).astype(np.float32)
        pixels = torch.from_numpy(x)
        grid = F.affine_grid(torch.from_numpy(theta), list(x.shape), align_corners=False)
        moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False).numpy()
        contrast, brightness = 1 + o.light * u[:, 5], o.light * u[:, 6]
        lit = np.clip(moved * contrast[:, None, None, None] + brightness[:, None, None, None], -1, 1)
        return self._erase(lit.astype(np.float32, copy=False), keys), theta

    def _erase(self, x: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Each picture with its square of grey, which may reach over the border."""
        side = round(self.options.erase * self.size)
        if not side:
            return x
        first = rng.integers(rng.mix(keys, "erase"), self.size, 2)[..., None] - side // 2
        there = np.arange(self.size)
        rows, columns = np.moveaxis((there >= first) & (there < first + side), 1, 0)
        return np.where((rows[:, :, None] & columns[:, None, :])[:, None], np.float32(0), x)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        pixels, level = content["pixels"], content["level"]
        x = self.to_width(self.stem(pixels)).flatten(2).transpose(1, 2)  # [m, P, D]
        first, place = self.place[: self.like.tokens], self.place[self.like.tokens :]
        x = x + place + self.level(waves(level))
        if self.like.tokens:
            x = torch.cat([(self.first + first).expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
        return x.flatten(0, 1)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        losses = (self.head(h).float() - targets["patch"]).square().mean(-1) * targets["velocity"]
        return Loss((losses * targets["w"]).sum(), targets["w"].sum(), losses.detach())

    def start(self, context: AnswerContext) -> State:
        noise = context.tensor(rng.normal(rng.mix(context.keys, "noise"), self.channels, self.size, self.size))
        state = context.state("guidance", "steps")
        return {**state, "pixels": noise, "taken": torch.zeros_like(state["steps"])}

    def query(self, state: State) -> Query:
        level = (state["taken"].float() / state["steps"])[:, None].expand(-1, self.count)
        return Query({"pixels": state["pixels"], "level": level}, t=self.like.tokens + self.count)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        h, unconditional = (None if x is None else x[:, self.like.tokens :] for x in (h, unconditional))
        patches = denoised(self.head, h, unconditional, state["guidance"])
        pixels = ode_step(state["pixels"], self._pixels(patches), state["taken"], state["steps"])
        taken = state["taken"] + 1
        return {**state, "done": taken >= state["steps"], "pixels": pixels, "taken": taken}

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.full_like(prompt, self.like.tokens + self.count)

    def finish(self, state: State) -> list[Answer]:
        arrays = ((state["pixels"].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Answer(array[..., 0] if self.channels == 1 else array) for array in arrays]

    # -- evidence ----------------------------------------------------------------------------------------------------
    higher_is_better = False

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Of pixels, 0 to 1."""
        mse = float(self.per_row(answers, truths).mean())
        return {"mse": mse, "rmse": mse**0.5}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        drawn = np.stack([self.encode(a.value)["pixels"] for a in answers]) / 255.0
        real = np.stack([self.encode(t)["pixels"] for t in truths]) / 255.0
        return ((drawn - real) ** 2).reshape(len(drawn), -1).mean(1)

    def features(self) -> Any:
        from sklearn.preprocessing import FunctionTransformer

        def pixels(values: Sequence[Any]) -> np.ndarray:
            return np.stack([self._readable(v)["pixels"].reshape(-1) for v in values]) / 255.0

        return FunctionTransformer(pixels)

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyRegressor
        from sklearn.linear_model import Ridge

        return {"mean image": DummyRegressor(), "ridge": Ridge()}

    def _readable(self, value: Any) -> dict[str, np.ndarray]:
        """Black where there is no picture, or none that can be read."""
        try:
            return self.blank() if value is None else self.encode(value)
        except BadValueError:
            return self.blank()

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.stack([self.encode(v)["pixels"].reshape(-1) for v in values]) / 255.0

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        flat = np.clip(estimator.predict(features), 0, 1) * 255
        arrays = flat.round().astype(np.uint8).reshape(-1, self.channels, self.size, self.size).transpose(0, 2, 3, 1)
        return [Answer(array[..., 0] if self.channels == 1 else array) for array in arrays]

    def novelty(
        self, answers: Sequence[Answer], truths: Sequence[Any], known: Sequence[Any]
    ) -> dict[str, float | None]:
        """Root mean squared differences of thumbnails, 0 to 1, medians."""
        from onetrunk.metrics.images import nearest

        seen, drawn, real = (
            np.stack([*map(_thumbnail, values)]) for values in (known, [a.value for a in answers], truths)
        )
        away = {"nearest_known": drawn, "nearest_known_of_true": real}
        return {name: float(np.median(nearest(x, seen)[0])) / seen[0].size ** 0.5 for name, x in away.items()}

    def figure(self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any) -> bool:
        """Answers, each above what is true."""
        n = min(len(answers), 2 * _ACROSS)
        drawn = [np.asarray(self._as_shown(a.value)) for a in answers[:n]]
        real = [np.asarray(self._as_shown(t)) for t in truths[:n]]
        rows = [row for i in range(0, n, _ACROSS) for row in (drawn[i : i + _ACROSS], real[i : i + _ACROSS])]
        axes.imshow(sheet(rows), cmap="gray", vmin=0, vmax=255)
        side = self.size + 1
        axes.set_yticks([(i + 0.5) * side for i in range(len(rows))], ["answered", "true"] * (len(rows) // 2))
        axes.set_xticks([])
        return True

    def _as_shown(self, value: Any) -> Pillow.Image:
        """At the size and in the colours inside."""
        array = self.encode(value)["pixels"].transpose(1, 2, 0)
        return Pillow.fromarray(array[..., 0] if self.channels == 1 else array)

    @classmethod
    def show(cls, value: Any) -> dict[str, str]:
        try:
            image = open_image(value)
        except BadValueError as error:
            return {"text": str(error)}
        enlarged = max(1, 96 // max(image.size))
        image = image.resize((image.width * enlarged, image.height * enlarged), Pillow.Resampling.NEAREST)
        image.thumbnail((256, 256))
        return {"png": as_png(image)}


def _in_pixels(moved: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Maps [m, 2, 3] to the original from -1 to 1 become maps to its pixels; sides [m, 2] are width and height."""
    frame = moved.copy()
    frame[:, :, 2] += 1
    return frame * (sides[:, :, None] / 2).astype(np.float32)


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


def _thumbnail(value: Any) -> np.ndarray:
    """[16, 16, 3], 0 to 1."""
    return np.asarray(open_image(value).convert("RGB").resize((16, 16), Pillow.Resampling.BOX)) / 255.0


def _is_colour(image: Pillow.Image) -> bool:
    if image.mode == "L":
        return False
    small = np.asarray(image.resize((16, 16)), dtype=np.int16)
    return bool((small.max(-1) - small.min(-1)).max() > 12)


def _looks_like_image(value: Any) -> bool:
    if isinstance(value, Pillow.Image):
        return True
    if isinstance(value, dict):
        return "bytes" in value and str(value.get("path") or SUFFIXES[0]).lower().endswith(SUFFIXES)
    if isinstance(value, np.ndarray):
        return value.ndim in (2, 3)
    return isinstance(value, Path) and value.name.lower().endswith(SUFFIXES)


CODEC = Image
