"""Video: a few frames of a film, of one size and cut in patches over space and time; read, completed or drawn."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Pillow
from pydantic import Field
from torch import Tensor, nn

from onetrunk.columns._film import kind_of, opened
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

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".flv", ".mpg", ".mpeg", ".ogv")
_MOST_PIXELS = 40_000_000  # of one frame
_MOST_FRAMES = 200_000  # of one film: two hours at 25 a second
_MOST_SIDE = 256  # pixels: what is larger is made smaller while reading
_KEPT = 64  # frames kept while reading, at least: every frame at first, then every other, every fourth, ...
_LOOKED_AT = 50  # films that the size is learnt from
_SHOWN = 150  # milliseconds a frame is shown


class Video(Codec):
    """Patches of a few frames each (ViViT, arXiv 2103.15691), with one noise level each, as images have."""

    parts = True
    shared = True
    guided = True

    class Options(Config):
        frames: int = Field(8, ge=1, le=256)  # that the model sees, evenly over the film
        size: int | None = Field(None, ge=8, le=256)  # pixels a side inside the model; None: the films', 48 at most
        patch: int | None = Field(None, ge=1, le=128)  # pixels a side of one patch; None: 4 patches a side
        tube: int = Field(2, ge=1, le=64)  # frames of one patch
        hide: float = Field(0.75, gt=0, le=1)  # share of patches hidden when masked (VideoMAE, arXiv 2203.12602)
        scale: float = Field(0.1, ge=0, lt=1)  # augmentation in training: share of the size,
        shift: float = Field(0.1, ge=0, lt=1)  # share of the size,
        light: float = Field(0.1, ge=0, lt=1)  # brightness and contrast,
        flip: bool = False  # mirrored left to right
        stem: int = Field(16, ge=1, le=1024)  # channels of the convolutional stem's first stage, on each frame

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        return 1.0 if all(_looks_like_film(v) for v in values) else 0.0

    def fit(self, values: Sequence[Any]) -> None:
        sides, colour = [], False
        for value in values[:: max(1, len(values) // _LOOKED_AT)]:
            try:
                frames = open_film(value)
            except BadValueError:
                continue
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

    @property
    def _grid(self) -> tuple[int, int, int]:
        """Patches over time, down and across; of frames that fill no patch the last is repeated."""
        side = self.size // self.patch
        return -(-self.options.frames // self.options.tube), side, side

    @property
    def count(self) -> int:
        """Patches of one film."""
        return int(np.prod(self._grid))

    def build(self, width: int) -> None:
        self.stem = ResidualStages(self.channels, self.options.stem, self.patch, depth=1)
        cell = (self.options.tube, self.stem.rest, self.stem.rest)
        self.to_width = nn.Conv3d(self.stem.channels_out, width, cell, stride=cell)
        self.place = nn.Parameter(torch.randn(self.count, width) * 0.05)
        self.level = nn.Linear(WAVES, width)
        self.head = nn.Linear(width, self.options.tube * self.patch**2 * self.channels)
        nn.init.zeros_(self.head.weight)

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        sides, unreadable = [], 0
        for value in values[:: max(1, len(values) // _LOOKED_AT)]:
            try:
                sides.append(max(open_film(value).shape[1:3]))
            except BadValueError:
                unreadable += 1
        if not sides:
            return {"readable": 0}
        return {
            f"pixels a side, at most {_MOST_SIDE} are read": f"{min(sides)} to {max(sides)}",
            "unreadable in the sample": unreadable,
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        try:
            frames = open_film(value)
        except BadValueError:
            return f"unreadable {value!r:.200}"
        return hashlib.sha1(f"{frames.shape}".encode() + frames.tobytes()).hexdigest()

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        frames = open_film(value)
        frames = frames[np.linspace(0, len(frames) - 1, self.options.frames).round().astype(np.int64)]
        mode = "RGB" if self.channels == 3 else "L"
        small = [
            Pillow.fromarray(f).convert(mode).resize((self.size, self.size), Pillow.Resampling.BOX) for f in frames
        ]
        pixels = np.stack([np.asarray(f, dtype=np.uint8) for f in small]).reshape(*self._shape(len(small)), -1)
        return {"pixels": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}

    def _shape(self, frames: int) -> tuple[int, int, int]:
        return frames, self.size, self.size

    def blank(self) -> dict[str, np.ndarray]:
        return {"pixels": np.zeros((self.options.frames, self.channels, self.size, self.size), dtype=np.uint8)}

    def positions(self, content: Content) -> np.ndarray:
        return np.full(len(content), self.count, dtype=np.int64)

    # -- parts to positions ------------------------------------------------------------------------------------------
    def segment(self, content: Content, role: Role, keys: np.ndarray, augment: bool = False) -> Segment:
        m, P = len(content), self.count
        x = content.gather()["pixels"].astype(np.float32) / 127.5 - 1
        rest = self._grid[0] * self.options.tube - self.options.frames
        x = np.concatenate([x, x[:, -1:].repeat(rest, axis=1)], axis=1) if rest else x
        if augment and m and role != Role.ASKED:
            x = self._augmented(x, keys)
        lens = np.full(m, P, dtype=np.int64)
        level = np.ones((m, P), dtype=np.float32)
        if role == Role.GIVEN:
            return Segment({"pixels": x, "level": level}, lens)
        if role == Role.ASKED:
            level *= rng.uniform(rng.mix(keys, "level"), 1) ** 1.5
        else:
            level -= rng.uniform(rng.mix(keys, "hide"), P) < self.options.hide
        clean = self._patches(torch.from_numpy(x)).numpy()
        noise = rng.normal(rng.mix(keys, "noise"), *clean.shape[1:])
        shown = self._pixels(torch.from_numpy(noisy(clean, noise, level[..., None]))).numpy()
        flat = level.reshape(-1)
        reads = np.flatnonzero(flat < 1)
        targets = {
            "patch": clean.reshape(m * P, clean.shape[2])[reads],
            "velocity": weight(flat[reads]).astype(np.float32),
            "w": np.ones(len(reads), dtype=np.float32),
        }
        return Segment({"pixels": shown, "level": level}, lens, reads=reads, targets=targets)

    def _patches(self, x: Tensor) -> Tensor:
        """[m, T, C, S, S] to [m, P, size of a patch]."""
        (t, h, w), k, p, C = self._grid, self.options.tube, self.patch, self.channels
        return (
            x.reshape(-1, t, k, C, h, p, w, p).permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(len(x), t * h * w, k * C * p * p)
        )

    def _pixels(self, patches: Tensor) -> Tensor:
        """The inverse of `_patches`."""
        (t, h, w), k, p, C = self._grid, self.options.tube, self.patch, self.channels
        x = patches.reshape(-1, t, h, w, k, C, p, p).permute(0, 1, 4, 5, 2, 6, 3, 7)
        return x.reshape(len(patches), t * k, C, self.size, self.size)

    def _augmented(self, x: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Each film moved, enlarged, mirrored and lit in its own way, all its frames alike."""
        o, u = self.options, 2 * rng.uniform(rng.mix(keys, "augment"), 6) - 1
        scale, mirror = 1 + o.scale * u[:, 0], np.where(u[:, 1] < 0, -1.0, 1.0) if o.flip else 1.0
        theta = np.zeros((len(x), 2, 3), dtype=np.float32)
        theta[:, 0, 0], theta[:, 1, 1] = mirror / scale, 1 / scale
        theta[:, :, 2] = 2 * o.shift * u[:, 2:4]
        frames = torch.from_numpy(x).flatten(1, 2)
        grid = F.affine_grid(torch.from_numpy(theta), list(frames.shape), align_corners=False)
        moved = F.grid_sample(frames, grid, padding_mode="border", align_corners=False).numpy().reshape(x.shape)
        light = o.light * u[:, 4:].reshape(-1, 2, 1, 1, 1, 1)
        return np.clip(moved * (1 + light[:, 0]) + light[:, 1], -1, 1).astype(np.float32)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        pixels, level = content["pixels"], content["level"]
        m, t = pixels.shape[:2]
        x = self.stem(pixels.flatten(0, 1))
        x = self.to_width(x.view(m, t, *x.shape[1:]).transpose(1, 2)).flatten(2).transpose(1, 2)  # [m, P, D]
        return (x + self.place + self.level(waves(level))).flatten(0, 1)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        losses = (self.head(h).float() - targets["patch"]).square().mean(-1) * targets["velocity"]
        return Loss((losses * targets["w"]).sum(), targets["w"].sum(), losses.detach())

    def start(self, context: AnswerContext) -> State:
        noise = context.tensor(rng.normal(rng.mix(context.keys, "noise"), self.count, self.head.out_features))
        state = context.state("guidance", "steps")
        return {**state, "patches": noise, "taken": torch.zeros_like(state["steps"])}

    def query(self, state: State) -> Query:
        level = (state["taken"].float() / state["steps"])[:, None].expand(-1, self.count)
        return Query({"pixels": self._pixels(state["patches"]), "level": level}, t=self.count)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        clean = denoised(self.head, h, unconditional, state["guidance"])
        patches = ode_step(state["patches"], clean, state["taken"], state["steps"])
        taken = state["taken"] + 1
        return {**state, "done": taken >= state["steps"], "patches": patches, "taken": taken}

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.full_like(prompt, self.count)

    def finish(self, state: State) -> list[Answer]:
        """Arrays uint8 [frames, side, side, 3]."""
        x = self._pixels(state["patches"])[:, : self.options.frames].clamp(-1, 1)
        arrays = ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()
        return [Answer(_from_array(array)) for array in arrays]

    # -- evidence ----------------------------------------------------------------------------------------------------
    higher_is_better = False

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Of pixels, 0 to 1."""
        mse = float(self.per_row(answers, truths).mean())
        return {"mse": mse, "rmse": mse**0.5}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        drawn, real = self.target([a.value for a in answers]), self.target(truths)
        return ((drawn - real) ** 2).mean(1)

    def features(self) -> Any:
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: np.stack([self._sketch(v) for v in values]))

    def _sketch(self, value: Any) -> np.ndarray:
        """Every frame in 8 × 8 cells at most, 0 to 1; black where there is no film, or none that can be read."""
        try:
            pixels = (self.blank() if value is None else self.encode(value))["pixels"]
        except BadValueError:
            pixels = self.blank()["pixels"]
        return F.adaptive_avg_pool2d(torch.from_numpy(pixels / 255.0), min(8, self.size)).numpy().reshape(-1)

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyRegressor
        from sklearn.linear_model import Ridge

        return {"mean film": DummyRegressor(), "ridge": Ridge()}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.stack([self.encode(v)["pixels"].reshape(-1) for v in values]) / 255.0

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        flat = np.clip(estimator.predict(features), 0, 1) * 255
        arrays = flat.round().astype(np.uint8).reshape(-1, self.options.frames, self.channels, self.size, self.size)
        return [Answer(_from_array(array)) for array in arrays.transpose(0, 1, 3, 4, 2)]

    @classmethod
    def show(cls, value: Any) -> dict[str, str]:
        """A moving picture."""
        try:
            frames = open_film(value)
        except BadValueError as error:
            return {"text": str(error)}
        frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), 8)).round().astype(np.int64)]
        larger = max(1, 96 // max(frames.shape[1:3]))
        shown = [Pillow.fromarray(f) for f in frames.repeat(larger, axis=1).repeat(larger, axis=2)]
        for frame in shown:
            frame.thumbnail((256, 256))
        place = io.BytesIO()
        shown[0].save(place, format="PNG", save_all=True, append_images=shown[1:], duration=_SHOWN, loop=0)
        return {"png": base64.b64encode(place.getvalue()).decode()}


def open_film(value: Any) -> np.ndarray:
    """A path, bytes, a `{"bytes", "path"}` dict, or an array [frames, H, W] or [frames, H, W, 1 or 3], uint8 or floats
    from 0 to 1: frames evenly over the whole, uint8 [t, H, W, 3], at most 256 pixels a side; all of a short film, 64 to
    127 of a longer one.

    Raises BadValueError with the reason.
    """
    if isinstance(value, np.ndarray):
        return _from_array(value)
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else Path(value.get("path") or "")
    if not isinstance(value, str | Path | bytes):
        raise BadValueError(f"expected a film, found {type(value).__name__}")
    name = "the bytes" if isinstance(value, bytes) else str(value)
    try:
        kind = kind_of(value)
    except OSError:
        raise BadValueError(f"{name}: no such file") from None
    if kind is None:
        raise BadValueError(f"{name} is not a film of a known kind")
    with opened(value, kind, name) as film:
        if not film.streams.video:
            raise BadValueError(f"{name} has no picture")
        stream = film.streams.video[0]
        if stream.width * stream.height > _MOST_PIXELS:
            raise BadValueError(f"{name}: {stream.width} × {stream.height} pixels a frame; at most {_MOST_PIXELS:,}")
        kept: list[np.ndarray] = []
        every = 1
        for i, frame in enumerate(film.decode(stream)):
            if i >= _MOST_FRAMES:
                raise BadValueError(f"{name} is too long: more than {_MOST_FRAMES:,} frames")
            if i % every == 0:
                kept.append(frame.reformat(*_smaller(frame.width, frame.height), format="rgb24").to_ndarray())
            if len(kept) == 2 * _KEPT:
                kept, every = kept[::2], 2 * every
    if not kept:
        raise BadValueError(f"{name} has no frame")
    return np.stack(kept)


def _smaller(width: int, height: int) -> tuple[int, int]:
    share = min(1.0, _MOST_SIDE / max(width, height))
    return max(1, round(width * share)), max(1, round(height * share))


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or not array.size:
        raise BadValueError(f"expected an array [frames, H, W, 1 or 3], found shape {list(array.shape)}")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise BadValueError(f"expected uint8, or floats from 0 to 1; found {array.dtype} outside that range")
        array = (array * 255).round().astype(np.uint8)
    return array.repeat(3 // array.shape[3], axis=3)


def _looks_like_film(value: Any) -> bool:
    if isinstance(value, dict):
        return "bytes" in value and str(value.get("path") or "").lower().endswith(SUFFIXES)
    if isinstance(value, np.ndarray):
        return value.ndim == 4
    return isinstance(value, Path) and value.name.lower().endswith(SUFFIXES)


CODEC = Video
