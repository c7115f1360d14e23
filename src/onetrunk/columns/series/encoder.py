"""Series in patches (PatchTST, arXiv 2211.14730), normed by what is seen of each channel (RevIN, ICLR 2022).

C channels, L points of history, H points asked, P points a patch, N patches seen, K patches asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.families.patches.levels import noisy, velocity_weight
from onetrunk.columns.series.channels import Channels, read
from onetrunk.columns.series.display import bars, summary
from onetrunk.columns.series.linear import ridge
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment, local_positions, window_counts
from onetrunk.core.encoder import Beside, Encoder, History, SegmentContext
from onetrunk.core.errors import BadValueError
from onetrunk.core.parts import Arrays, Continued, Divided, Parts
from onetrunk.core.values import in_memory

QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of each point of a forecast
_MAX_SEEN = 512  # points of history, where nobody says how many
_MAX_WINDOWS = 10_000  # that the linear map is learnt from
SEEN, SLOT, PATH, MASKED = range(4)  # what a position is: values, a slot of the forecast or of a path, masked values


@dataclass(frozen=True)
class Windows:
    """Documents cut in what was seen and what came. `seen` [m, C, N * P] is as it is; `past` [m, C, L] and `future`
    [m, C, K * P] are normed by its `centre` and `scale` [m, C], 0 where `present` says that nothing is there."""

    seen: np.ndarray
    past: np.ndarray
    future: np.ndarray
    present: np.ndarray  # of the future
    centre: np.ndarray
    scale: np.ndarray


class SeriesEncoder(Encoder, History, Divided, Continued):
    type_name = "series"
    ragged = True
    divisible = True

    class Options(Config):
        horizon: int = Field(24, ge=1, le=10_000)  # points asked
        length: int | None = Field(None, ge=1, le=100_000)  # points of history looked at; None: the training rows', 512
        patch: int = Field(16, ge=1, le=1024)  # points of one position
        period: int | None = Field(None, ge=1)  # points of a season (24 hours, 7 days); None: found in training rows
        paths: bool = True  # learn to draw whole paths, by flow
        mask_rate: float = Field(0.4, gt=0, le=1)  # share of patches masked
        patch_dropout: float = Field(0.1, ge=0, lt=1)  # share of given patches left out in training
        dropout: float = Field(0.0, ge=0, lt=1)  # before the read-out
        scaled: bool = True  # metrics in standard deviations of the training rows; false: in the column's own units
        horizons: list[int] = Field(default_factory=list)  # shorter ones whose error is reported too

    options: Options
    channels: Channels
    length: int  # L
    points: int  # of a given value, at most: history, and what is known beforehand
    linear: np.ndarray | None = None  # [L, K * P], only just after `fit`: a saved model has it among its weights

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if not values or not all(isinstance(v, list | tuple | dict | np.ndarray) for v in values):
            return 0.0
        try:
            arrays = [read(v)[1] for v in values]
        except BadValueError:
            return 0.0
        if max(map(len, arrays)) < 2:
            return 0.0
        return 0.9 if any((x[np.isfinite(x)] % 1 != 0).any() for x in arrays) else 0.5  # whole numbers may be names

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        return summary(values)

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        try:
            names, x = read(value)
        except BadValueError:
            return f"unreadable {value!r}"
        return hashlib.sha1(repr((names, x.shape)).encode() + x.tobytes()).hexdigest()

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        return {"text": bars(value)}

    def split(self, value: Any) -> tuple[Any, Any]:
        _, x = read(value)
        cut = len(x) - self.options.horizon
        if cut < 1:
            raise BadValueError(f"a history of {len(x)} points, too short to judge {self.options.horizon} by it")
        if not np.isfinite(x[cut:]).any():
            raise BadValueError(f"none of the last {self.options.horizon} points is there")
        if isinstance(value, dict):
            return {k: v[:cut] for k, v in value.items()}, {k: v[cut:] for k, v in value.items()}
        return value[:cut], value[cut:]

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        values = in_memory(values)
        self._know(Channels.fit(values, self.options.period))
        content, _ = self.encode_all(values, lambda i, reason: None)
        every = max(1, len(content) // _MAX_WINDOWS)
        self.linear = self._fitted_map(content.take(np.arange(0, len(content), every)))

    def _fitted_map(self, content: Content) -> np.ndarray:
        """The ridge regression of what came on what was seen, [L, K * P]: what the trunk corrects."""
        reach = self.length + self.options.horizon
        each = np.maximum(1, np.minimum(content.lens - reach + 1, _MAX_WINDOWS // max(1, len(content))))
        whose = np.repeat(np.arange(len(content)), each)
        back = local_positions(each) * np.maximum(content.lens - reach, 0)[whose] // np.maximum(each - 1, 1)[whose]
        windows = self._cut(content.take(whose), content.lens[whose] - back)
        H, L, points = self.options.horizon, self.length, windows.future.shape[-1]
        past, future = windows.past.reshape(-1, L), windows.future.reshape(-1, points)
        usable = windows.present.reshape(-1, points)[:, :H].all(1) & past.any(1)
        weights = np.zeros((L, points))
        if usable.sum() > 1:
            weights[:, :H] = ridge(past[usable], future[usable, :H], self.channels.period)
        return weights

    def _know(self, channels: Channels) -> None:
        self.channels = channels
        self.length = max(1, min(self.options.length or _MAX_SEEN, channels.longest - self.options.horizon))
        self.points = min(channels.longest, self.length + self.options.horizon)

    def knowledge(self) -> dict[str, Any]:
        return self.channels.as_json()

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self._know(Channels(**knowledge))

    @property
    def seen_patches(self) -> int:
        """N: patches of a channel's history."""
        return -(-self.length // self.options.patch)

    @property
    def asked_patches(self) -> int:
        """K: patches of a channel's forecast."""
        return -(-self.options.horizon // self.options.patch)

    @property
    def given_patches(self) -> int:
        """Patches of a channel that is given, to the end of what is known beforehand."""
        return -(-self.points // self.options.patch)

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        return {"x": self.channels.scaled(value)}  # float64: of a small series beside large ones float32 leaves little

    def blank(self) -> dict[str, np.ndarray]:
        return {"x": np.zeros((1, len(self.channels)))}

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        missing = int(np.isnan(content.gather()["x"]).sum()) if len(content) else 0
        return {"missing points": missing} if missing else {}

    def windows(self, content: Content) -> np.ndarray:
        return window_counts(content.lens, self.length + self.options.horizon)

    def max_positions(self, content: Content) -> np.ndarray:
        asked = self.seen_patches + self.asked_patches * (1 + self.options.paths)
        return np.full(len(content), len(self.channels) * max(asked, self.given_patches), dtype=np.int64)

    # -- parts -------------------------------------------------------------------------------------------------------
    by_value = True  # what is left out also changes what the rest is normed by

    def parts(self, content: Content, asked: bool) -> Parts:
        x = content.gather()["x"]
        where = self._patch_points(len(x), asked)
        inside = np.isfinite(np.concatenate([x, np.full((1, x.shape[1]), np.nan)])[where]).any(1)  # [N, C]
        names = self.channels.names or [""] * len(self.channels)
        position, labels = [], []
        for c, n in np.argwhere(inside.T).tolist():
            points = where[n][where[n] < len(x)] + 1
            position.append(c * len(where) + n)
            labels.append(f"{names[c]} points {points[0]} to {points[-1]}".strip())
        return Parts(np.array(position, dtype=np.int64), labels, "patch")

    def _patch_points(self, points: int, asked: bool) -> np.ndarray:
        """Which points of a value each patch of a channel holds, int64 [N, P]; `points` where it is none of them."""
        N, P = (self.seen_patches if asked else self.given_patches), self.options.patch
        end = max(points - self.options.horizon, 0) if asked else points
        index = end - N * P + np.arange(N * P)
        first = end - self.length if asked else 0
        return np.where(index >= max(0, first), index, points).reshape(N, P)

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        """As patches none of whose points are there."""
        hidden = hidden & (arrays["kind"] == SEEN)
        patch = arrays["patch"].copy()
        patch[hidden, : 2 * self.options.patch] = 0
        return {**arrays, "patch": patch}

    def without(self, content: Content, left_out: np.ndarray, asked: bool) -> Content:
        m, x = len(content), content.gather()["x"]
        whole = x.reshape(m, -1, x.shape[1]).copy() if m else x[None][:0]
        where = self._patch_points(whole.shape[1], asked)
        parts = self.parts(content.take(np.zeros(min(1, m), dtype=np.int64)), asked)
        for k, at in enumerate(parts.position.tolist()):
            c, n = divmod(at, len(where))
            points = where[n][where[n] < whole.shape[1]]
            whole[np.ix_(left_out[:, k], points, np.array([c]))] = np.nan
        return Content({"x": whole.reshape(-1, x.shape[1])}, content.lens)

    def continued(self, before: Arrays | None, answer: Answer) -> tuple[Arrays, slice]:
        """The history, and as much of the forecast as is asked; its slots are read, no path."""
        forecast = self.channels.scaled(answer.value)
        x = forecast if before is None else np.concatenate([before["x"], forecast])
        return {"x": x}, slice(0, len(self.channels) * self.asked_patches)

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        if context.role == Role.ASKED:
            return self._forecast(content, context.keys, context.augment)
        m, C, N, P = len(content), len(self.channels), self.given_patches, self.options.patch
        x = self._ending(content, content.lens, N * P).reshape(m, C, N, P)
        lens = np.full(m, C * N, dtype=np.int64)
        u = rng.uniform(rng.mix(context.keys, "hide"), C, N)
        dropout = self.options.patch_dropout * context.augment
        masked = u < (self.options.mask_rate if context.role == Role.MASKED else dropout)
        visible = np.where(masked[..., None], np.nan, x)
        centre, scale = self.channels.norm(visible.reshape(m, C, N * P))
        arrays = self.patches(visible, centre, scale)
        if context.role == Role.GIVEN:
            return Segment(arrays, lens)
        arrays["kind"] = np.where(masked.reshape(-1), MASKED, SEEN)
        present = np.isfinite(x) & masked[..., None]
        reads = np.flatnonzero(present.any(-1))
        y = np.where(present, (x - centre[..., None, None]) / scale[..., None, None], 0)
        targets = {
            "y": y.reshape(-1, P)[reads].astype(np.float32),
            "present": present.reshape(-1, P)[reads].astype(np.float32),
            "past": np.zeros((len(reads), self.length), dtype=np.float32),
            "slot": np.zeros(len(reads), dtype=np.int64),
            "velocity": np.zeros(len(reads), dtype=np.float32),
            "norm": np.zeros((len(reads), 2), dtype=np.float32),
        }
        return Segment(arrays, lens, reads=reads, targets=_weighed(targets))

    def _ending(self, content: Content, ends: np.ndarray, points: int) -> np.ndarray:
        """The `points` points before `ends` [m] of every document, NaN where there is none: [m, C, points]."""
        index = ends[:, None] - points + np.arange(points)
        x = content.data["x"]
        if not len(x):
            return np.full((len(ends), len(self.channels), points), np.nan)
        values = x[np.clip(content.starts[:, None] + index, 0, len(x) - 1)]
        inside = (index >= 0) & (index < content.lens[:, None])
        return np.where(inside[..., None], values, np.nan).transpose(0, 2, 1)

    def patches(self, x: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Values [m, C, n, P], normed by centre and scale [m, C], as content of m * C * n positions."""
        m, C, n, P = x.shape
        present = np.isfinite(x)
        patch = np.where(present, (x - centre[..., None, None]) / scale[..., None, None], 0)
        stat = np.stack([centre, np.log(scale)], axis=-1)[:, :, None].repeat(n, 2)
        return {
            "patch": np.concatenate([patch, present, stat], axis=-1).reshape(-1, 2 * P + 2).astype(np.float32),
            "level": np.zeros(m * C * n, dtype=np.float32),
            "channel": np.tile(np.repeat(np.arange(C), n), m),
            "position": np.tile(np.arange(n)[::-1], m * C),
            "kind": np.full(m * C * n, SEEN),
        }

    def slots(self, m: int, kind: int) -> dict[str, np.ndarray]:
        """Positions of a forecast, or of a path, before anything is written in them."""
        C, K, first = len(self.channels), self.asked_patches, max(self.seen_patches, self.given_patches)
        return {
            "patch": np.zeros((m * C * K, 2 * self.options.patch + 2), dtype=np.float32),
            "level": np.zeros(m * C * K, dtype=np.float32),
            "channel": np.tile(np.repeat(np.arange(C), K), m),
            "position": np.tile(first + np.arange(K), m * C),
            "kind": np.full(m * C * K, kind),
        }

    def history(self, content: Content) -> np.ndarray:
        """All of every document in whole patches, [m, C, N * P]; NaN where it is longer than the points looked at, or
        missing."""
        points = self.seen_patches * self.options.patch
        past = self._ending(content, content.lens, points)
        past[..., : points - self.length] = np.nan
        return past

    def normed_history(self, seen: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Its last L points, 0 where nothing is there: [m, C, L]."""
        return _normed(seen[..., seen.shape[-1] - self.length :], centre, scale)

    def _cut(self, content: Content, ends: np.ndarray) -> Windows:
        """Documents up to `ends` [m]; their last H points are what came."""
        points, H = self.asked_patches * self.options.patch, self.options.horizon
        cut = np.maximum(ends - H, 0)
        seen = self.history(content.window(np.zeros_like(cut), cut))
        centre, scale = self.channels.norm(seen)
        came = self._ending(content, cut + points, points)
        after = np.arange(points) >= np.minimum(ends - cut, H)[:, None]
        came[np.broadcast_to(after[:, None], came.shape)] = np.nan
        past = self.normed_history(seen, centre, scale)
        return Windows(seen, past, _normed(came, centre, scale), np.isfinite(came), centre, scale)

    def _forecast(self, content: Content, keys: np.ndarray, augment: bool) -> Segment:
        """What is seen (order 0), slots (order 1) and, noisy, what comes (order 2: it sees the slots)."""
        m, C, P, L = len(content), len(self.channels), self.options.patch, self.length
        N, K = self.seen_patches, self.asked_patches
        ends = content.lens
        if augment:  # of a long series one window
            spare = np.maximum(ends - L - self.options.horizon, 0)
            ends = ends - rng.integers(rng.mix(keys, "window"), spare + 1)
        cut = self._cut(content, ends)
        y = cut.future.astype(np.float32).reshape(-1, P)
        targets: dict[str, np.ndarray] = {
            "y": y,
            "present": cut.present.reshape(-1, P).astype(np.float32),
            "past": cut.past.reshape(m * C, L).repeat(K, 0).astype(np.float32),
            "slot": np.tile(np.arange(K), m * C),
            "velocity": np.zeros(len(y), dtype=np.float32),
            "norm": np.stack([cut.centre, cut.scale], -1).reshape(m * C, 2).repeat(K, 0).astype(np.float32),
        }
        seen = self.patches(cut.seen.reshape(m, C, N, P), cut.centre, cut.scale)
        blocks = [(seen, C * N), (self.slots(m, SLOT), C * K)]
        if self.options.paths:
            level = rng.uniform(rng.mix(keys, "level")).repeat(C * K).astype(np.float32)
            noise = rng.normal(rng.mix(keys, "noise"), C * K * P).reshape(-1, P)
            path = self.slots(m, PATH)
            path["patch"][:, :P] = noisy(y, noise, level[:, None])
            path["level"] = level
            blocks.append((path, C * K))
            twice = {name: _beside([array, array], m) for name, array in targets.items()}
            velocity = [np.zeros(len(y), dtype=np.float32), velocity_weight(level).astype(np.float32)]
            targets = {**twice, "velocity": _beside(velocity, m)}
        sizes = [size for _, size in blocks]
        arrays = {name: _beside([block[name] for block, _ in blocks], m) for name in blocks[0][0]}
        order = np.tile(np.repeat(np.arange(len(sizes)), sizes), m)
        lens = np.full(m, sum(sizes), dtype=np.int64)
        return Segment(arrays, lens, order, np.flatnonzero(order > 0), _weighed(targets))


def _normed(x: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Values [m, C, n] in units of centre and scale [m, C], 0 where nothing is there."""
    return np.where(np.isfinite(x), (x - centre[..., None]) / scale[..., None], 0)


def _beside(blocks: Sequence[np.ndarray], m: int) -> np.ndarray:
    """Blocks of m documents each, document after document."""
    shaped = [block.reshape(m, -1, *block.shape[1:]) if m else block[None][:0] for block in blocks]
    joined = np.concatenate(shaped, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def _weighed(targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A position weighs as much of it is there."""
    return {**targets, "w": targets["present"].mean(1)}
