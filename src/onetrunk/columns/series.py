"""Series of numbers at regular times, one channel or many: forecast from what was seen, or read, or completed.

A channel is cut in patches (PatchTST, arXiv 2211.14730) and normed by what is seen of it (RevIN, ICLR 2022). A forecast
is a linear map of the history (as DLinear, arXiv 2205.13504; fitted by ridge regression) that the trunk corrects: its
mean and its quantiles, and whole paths by flow matching.

C channels, L points of history, H points asked, P points a patch, N patches seen, K patches asked, Q quantiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from onetrunk.columns._regular import Channels, bars, norm, plot, read, ridge, summary
from onetrunk.columns.families.patches.levels import noisy
from onetrunk.columns.families.patches.levels import velocity_weight as weight
from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.column import Codec
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment, local_positions
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.errors import BadValueError, UsageError
from onetrunk.core.values import in_memory
from onetrunk.metrics import forecast
from onetrunk.nn.heads.flow import broadcast_like as like
from onetrunk.nn.heads.flow import ode_step
from onetrunk.nn.heads.forecast import QUANTILES, Forecast

_MOST_SEEN = 512  # points of history, where nobody says how many
_WINDOWS = 10_000  # that the linear map begins from
_FREQUENCIES = 8
_SEEN, _SLOT, _PATH, _HIDDEN = range(4)  # what a position is: values, a slot of the forecast or of a path, masked


class Series(Codec):
    """Values: lists or arrays [T] or [T, C], or channels by name, `{"north": [...], "south": [...]}`; None and NaN are
    missing points. Asked, a value's last `horizon` points are what comes next."""

    ragged = True
    parts = True
    continues = True
    history = True
    higher_is_better = False

    class Options(Config):
        horizon: int = Field(24, ge=1, le=10_000)  # points asked
        length: int | None = Field(None, ge=1, le=100_000)  # points of history looked at; None: the training rows', 512
        patch: int = Field(16, ge=1, le=1024)  # points of one position
        period: int | None = Field(None, ge=1)  # points of a season (24 hours, 7 days); None: found in training rows
        paths: bool = True  # learn to draw whole paths, by flow
        hide: float = Field(0.4, gt=0, le=1)  # share of patches hidden when masked
        drop: float = Field(0.1, ge=0, lt=1)  # share of given patches left out in training
        dropout: float = Field(0.0, ge=0, lt=1)  # before the read-out
        scaled: bool = True  # metrics in standard deviations of the training rows; false: in the column's own units
        horizons: list[int] = Field(default_factory=list)  # shorter ones whose error is reported too

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if not values or not all(isinstance(v, list | tuple | dict | np.ndarray) for v in values):
            return 0.0
        try:
            found = [read(v)[1] for v in values]
        except BadValueError:
            return 0.0
        if max(map(len, found)) < 2:
            return 0.0
        return 0.9 if any((x[np.isfinite(x)] % 1 != 0).any() for x in found) else 0.5  # whole numbers may be names

    def fit(self, values: Sequence[Any]) -> None:
        values = in_memory(values)
        self._know(Channels.fit(values, self.options.period))
        content, _ = self.encode_all(values, lambda i, reason: None)
        self.linear = self._linear(content.take(np.arange(0, len(content), max(1, len(content) // _WINDOWS))))

    def _linear(self, content: Content) -> np.ndarray:
        """The ridge regression of what came on what was seen, [L, K * P]: what the trunk corrects."""
        reach = self.length + self.options.horizon
        each = np.maximum(1, np.minimum(content.lens - reach + 1, _WINDOWS // max(1, len(content))))
        whose = np.repeat(np.arange(len(content)), each)
        back = local_positions(each) * np.maximum(content.lens - reach, 0)[whose] // np.maximum(each - 1, 1)[whose]
        flat, y, there = self._cut(content.take(whose), content.lens[whose] - back)[:3]
        H, L = self.options.horizon, self.length
        flat, y, there = flat.reshape(-1, L), y.reshape(-1, y.shape[-1]), there.reshape(-1, y.shape[-1])
        good = there[:, :H].all(1) & flat.any(1)
        found = np.zeros((L, y.shape[1]))
        if good.sum() > 1:
            found[:, :H] = ridge(flat[good], y[good, :H], self.known.period)
        return found

    def _know(self, channels: Channels) -> None:
        self.known, self.channels = channels, len(channels)
        self.length = max(1, min(self.options.length or _MOST_SEEN, channels.longest - self.options.horizon))
        self.points = min(channels.longest, self.length + self.options.horizon)

    def knowledge(self) -> dict[str, Any]:
        return self.known.as_json()

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self._know(Channels(**knowledge))

    @property
    def seen(self) -> int:
        """Patches of a channel's history."""
        return -(-self.length // self.options.patch)

    @property
    def asked(self) -> int:
        """Patches of a channel's forecast."""
        return -(-self.options.horizon // self.options.patch)

    @property
    def whole(self) -> int:
        """Patches of a channel that is given, to the end of what is known beforehand."""
        return -(-self.points // self.options.patch)

    def build(self, width: int) -> None:
        P = self.options.patch
        self.line = nn.Linear(2 * P + 2, width)
        self.kind = nn.Parameter(torch.randn(4, width) * 0.05)
        self.place = nn.Parameter(torch.randn(max(self.seen, self.whole) + self.asked, width) * 0.05)
        self.channel = nn.Parameter(torch.zeros(self.channels, width))
        self.head = Forecast(width, self.length, self.asked, P, self.options.paths, self.options.dropout)
        if hasattr(self, "linear"):  # just fitted; a saved model has it among its weights
            self.head.line.copy_(torch.from_numpy(self.linear.T))
        if self.options.paths:
            self.noisy = nn.Linear(P + 2 * _FREQUENCIES, width)

    # -- a person's view ---------------------------------------------------------------------------------------------
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
    def show(cls, value: Any) -> dict[str, str]:
        return {"text": bars(value)}

    def dropped(self, content: Content) -> dict[str, int]:
        missing = int(np.isnan(content.gather()["x"]).sum()) if len(content) else 0
        return {"missing points": missing} if missing else {}

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        return {"x": self.known.scaled(value).astype(np.float32)}

    def blank(self) -> dict[str, np.ndarray]:
        return {"x": np.zeros((1, self.channels), dtype=np.float32)}

    def windows(self, content: Content) -> np.ndarray:
        return np.maximum(1, -(-content.lens // (self.length + self.options.horizon)))

    def positions(self, content: Content) -> np.ndarray:
        asked = self.seen + self.asked * (1 + self.options.paths)
        return np.full(len(content), self.channels * max(asked, self.whole), dtype=np.int64)

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

    # -- parts to positions ------------------------------------------------------------------------------------------
    def segment(self, content: Content, role: Role, keys: np.ndarray, augment: bool = False) -> Segment:
        if role == Role.ASKED:
            return self._forecast(content, keys, augment)
        m, C, N, P = len(content), self.channels, self.whole, self.options.patch
        x = self._ending(content, content.lens, N * P).reshape(m, C, N, P)
        lens = np.full(m, C * N, dtype=np.int64)
        u = rng.uniform(rng.mix(keys, "hide"), C, N)
        hidden = u < (self.options.hide if role == Role.MASKED else self.options.drop * augment)
        shown = np.where(hidden[..., None], np.nan, x)
        centre, scale = norm(shown.reshape(m, C, N * P))
        parts = self._patches(shown, centre, scale)
        if role == Role.GIVEN:
            return Segment(parts, lens)
        parts["kind"] = np.where(hidden.reshape(-1), _HIDDEN, _SEEN)
        there = np.isfinite(x) & hidden[..., None]
        reads = np.flatnonzero(there.any(-1))
        y = np.where(there, (x - centre[..., None, None]) / scale[..., None, None], 0)
        targets = {
            "y": y.reshape(-1, P)[reads].astype(np.float32),
            "there": there.reshape(-1, P)[reads].astype(np.float32),
            "past": np.zeros((len(reads), self.length), dtype=np.float32),
            "slot": np.zeros(len(reads), dtype=np.int64),
            "velocity": np.zeros(len(reads), dtype=np.float32),
        }
        return Segment(parts, lens, reads=reads, targets=_weighed(targets))

    def _ending(self, content: Content, ends: np.ndarray, points: int) -> np.ndarray:
        """The `points` points before `ends` [m] of every document, NaN where there is none: [m, C, points]."""
        place = ends[:, None] - points + np.arange(points)
        x = content.data["x"]
        if not len(x):
            return np.full((len(ends), self.channels, points), np.nan, dtype=np.float32)
        found = x[np.clip(content.starts[:, None] + place, 0, len(x) - 1)]
        there = (place >= 0) & (place < content.lens[:, None])
        return np.where(there[..., None], found, np.nan).transpose(0, 2, 1)

    def _patches(self, x: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Values [m, C, n, P], normed by centre and scale [m, C], as content of m * C * n positions."""
        m, C, n, P = x.shape
        there = np.isfinite(x)
        patch = np.where(there, (x - centre[..., None, None]) / scale[..., None, None], 0)
        stat = np.stack([centre, np.log(scale)], axis=-1)[:, :, None].repeat(n, 2)
        return {
            "patch": np.concatenate([patch, there, stat], axis=-1).reshape(-1, 2 * P + 2).astype(np.float32),
            "level": np.zeros(m * C * n, dtype=np.float32),
            "channel": np.tile(np.repeat(np.arange(C), n), m),
            "place": np.tile(np.arange(n)[::-1], m * C),
            "kind": np.full(m * C * n, _SEEN),
        }

    def _slots(self, m: int, kind: int) -> dict[str, np.ndarray]:
        """Positions of a forecast, or of a path, before anything is written in them."""
        C, K, first = self.channels, self.asked, max(self.seen, self.whole)
        return {
            "patch": np.zeros((m * C * K, 2 * self.options.patch + 2), dtype=np.float32),
            "level": np.zeros(m * C * K, dtype=np.float32),
            "channel": np.tile(np.repeat(np.arange(C), K), m),
            "place": np.tile(first + np.arange(K), m * C),
            "kind": np.full(m * C * K, kind),
        }

    def _cut(self, content: Content, ends: np.ndarray) -> tuple[np.ndarray, ...]:
        """Documents up to `ends` [m] as what was seen, normed [m, C, L], what came, normed [m, C, K * P], and what is
        there of it; then what was seen as it is [m, C, N * P], and its norm [m, C] and [m, C]."""
        P, H, L = self.options.patch, self.options.horizon, self.length
        N, K = self.seen, self.asked
        cut = np.maximum(ends - H, 0)
        past = self._seen(content.window(np.zeros_like(cut), cut))
        centre, scale = norm(past)
        came = self._ending(content, cut + K * P, K * P)
        after = np.arange(K * P) >= np.minimum(ends - cut, H)[:, None]
        came[np.broadcast_to(after[:, None], came.shape)] = np.nan
        there = np.isfinite(came)
        flat, y = (
            np.where(np.isfinite(x), (x - centre[..., None]) / scale[..., None], 0)
            for x in (past[..., N * P - L :], came)
        )
        return flat, y, there, past, centre, scale

    def _seen(self, content: Content) -> np.ndarray:
        """The history in whole patches, [m, C, N * P]; NaN where it is longer than the points looked at, or missing."""
        points = self.seen * self.options.patch
        past = self._ending(content, content.lens, points)
        past[..., : points - self.length] = np.nan
        return past

    def _forecast(self, content: Content, keys: np.ndarray, augment: bool) -> Segment:
        """What is seen (order 0), slots (order 1) and, noisy, what comes (order 2: it sees the slots)."""
        m, C, P, L = len(content), self.channels, self.options.patch, self.length
        N, K = self.seen, self.asked
        ends = content.lens
        if augment:  # of a long series one window
            spare = np.maximum(ends - L - self.options.horizon, 0)
            ends = ends - rng.integers(rng.mix(keys, "window"), spare + 1)
        flat, y, there, past, centre, scale = self._cut(content, ends)
        y = y.astype(np.float32).reshape(-1, P)
        targets = {
            "y": y,
            "there": there.reshape(-1, P).astype(np.float32),
            "past": flat.reshape(m * C, L).repeat(K, 0).astype(np.float32),
            "slot": np.tile(np.arange(K), m * C),
            "velocity": np.zeros(len(y), dtype=np.float32),
        }
        blocks = [(self._patches(past.reshape(m, C, N, P), centre, scale), C * N), (self._slots(m, _SLOT), C * K)]
        if self.options.paths:
            level = rng.uniform(rng.mix(keys, "level")).repeat(C * K).astype(np.float32)
            noise = rng.normal(rng.mix(keys, "noise"), C * K * P).reshape(-1, P)
            drawn = self._slots(m, _PATH)
            drawn["patch"][:, :P] = noisy(y, noise, level[:, None])
            drawn["level"] = level
            blocks.append((drawn, C * K))
            twice = {name: _beside([array, array], m) for name, array in targets.items()}
            velocity = [np.zeros(len(y), dtype=np.float32), weight(level).astype(np.float32)]
            targets = {**twice, "velocity": _beside(velocity, m)}
        sizes = [size for _, size in blocks]
        parts = {name: _beside([block[name] for block, _ in blocks], m) for name in blocks[0][0]}
        order = np.tile(np.repeat(np.arange(len(sizes)), sizes), m)
        lens = np.full(m, sum(sizes), dtype=np.int64)
        return Segment(parts, lens, order, np.flatnonzero(order > 0), _weighed(targets))

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        kind, level = content["kind"], content["level"]
        x = self.kind[kind] + self.place[content["place"]] + self.channel[content["channel"]]
        x = x + torch.where((kind == _SEEN)[:, None], self.line(content["patch"]), 0.0)
        if self.options.paths:
            angle = level[:, None] * torch.pi * torch.arange(1, _FREQUENCIES + 1, device=level.device)
            inputs = torch.cat([content["patch"][:, : self.options.patch], angle.sin(), angle.cos()], dim=1)
            x = x + torch.where((kind == _PATH)[:, None], self.noisy(inputs), 0.0)
        return x

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Of values normed by the history, so that a series counts as much as one that moves more."""
        losses, w = self.head.loss(h, targets), targets["w"]
        return Loss((losses * w).sum(), w.sum(), losses.detach())

    def start(self, context: AnswerContext) -> State:
        """`phase` 0 reads the history, 1 the slots, 2 is every step of a path."""
        n, prompt = context.n, context.prompt
        if not self.options.paths and any(sampling.temperature > 0 for sampling in context.sampling):
            raise UsageError(
                "Paths are drawn only of a series that has learnt it: train it with the option paths=true."
            )
        C, N, P, L, K = self.channels, self.seen, self.options.patch, self.length, self.asked
        past = np.full((n, C, N * P), np.nan, dtype=np.float32)
        if prompt is not None:
            past = self._seen(prompt)
        centre, scale = norm(past)
        parts = self._patches(past.reshape(n, C, N, P), centre, scale)
        flat = np.where(np.isfinite(past), (past - centre[..., None]) / scale[..., None], 0)[..., N * P - L :]
        arrays = {
            "patch": parts["patch"].reshape(n, C * N, -1),
            "past": flat,
            "norm": np.stack([centre, scale], axis=-1),
            "path": rng.normal(rng.mix(context.keys, "noise"), C, K, P),
        }
        state = context.state("temperature", "steps")
        state |= {name: context.tensor(array.astype(np.float32)) for name, array in arrays.items()}
        state["path"] = like(state["temperature"], state["path"]) * state["path"]
        return {**state, "phase": torch.zeros_like(state["steps"]), "taken": torch.zeros_like(state["steps"])}

    def query(self, state: State) -> Query:
        n, phase, C, K = len(state["done"]), int(state["phase"][0]), self.channels, self.asked
        device = state["patch"].device
        if phase == 0:
            shape = np.full((n, C, self.seen, self.options.patch), np.nan)
            content = self._patches(shape, np.zeros((n, C)), np.ones((n, C)))
            content = _tensors(content, device) | {"patch": state["patch"].flatten(0, 1)}
            return Query(content, t=C * self.seen, keep=True)
        content = _tensors(self._slots(n, _SLOT if phase == 1 else _PATH), device)
        if phase > 1:
            content["patch"][:, : self.options.patch] = state["path"].flatten(0, 2)
            level = state["taken"].float() / state["steps"]
            content["level"] = level.repeat_interleave(C * K).view_as(content["level"])
        first = C * (self.seen + K * (phase > 1))
        return Query(content, t=C * K, keep=phase == 1, pos=first)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        n, phase, C, K, P = len(h), int(state["phase"][0]), self.channels, self.asked, self.options.patch
        after = {**state, "phase": (state["phase"] + 1).clamp(max=2)}
        if phase == 0:
            return after
        past = state["past"].flatten(0, 1).repeat_interleave(K, 0)
        h, linear = h.flatten(0, 1), self.head.linear(past, torch.arange(K, device=h.device).repeat(n * C))
        if phase == 1:
            forecast = self.head(h, linear).view(n, C, K * P, -1)
            return {**after, "forecast": forecast, "done": state["temperature"] <= 0}
        clean = self.head.path(h, linear).view(n, C, K, P)
        path, taken = ode_step(state["path"], clean, state["taken"], state["steps"]), state["taken"] + 1
        return {**after, "path": path, "taken": taken, "done": taken >= state["steps"]}

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.full_like(prompt, self.channels * (self.seen + 2 * self.asked))

    def finish(self, state: State) -> list[Answer]:
        """The mean with quantiles and a central 90 % interval; where paths are drawn, one of them."""
        H = self.options.horizon
        centre, scale = state["norm"][..., None].unbind(2)

        def own(x: Tensor) -> np.ndarray:  # [n, C, points] to [n, H, C]
            return self.known.own((x[..., :H] * scale + centre).double().cpu().numpy().transpose(0, 2, 1))

        mean, *levels = (own(x) for x in state["forecast"].unbind(-1))
        levels = np.sort(np.stack(levels), axis=0)
        drawn = (state["taken"] > 0).cpu().numpy()
        values = np.where(drawn[:, None, None], own(state["path"].flatten(2)), mean)
        low, high = np.minimum(levels[0], values), np.maximum(levels[-1], values)
        written = self.known.written
        return [
            Answer(
                written(value),
                interval=(written(low[i]), written(high[i])),
                samples=[written(value)] if drawn[i] else None,
                quantiles={q: written(level[i]) for q, level in zip(QUANTILES, levels, strict=True)},
            )
            for i, value in enumerate(values)
        ]

    # -- evidence ----------------------------------------------------------------------------------------------------
    def _judged(self, values: Sequence[Any]) -> np.ndarray:
        """[n, H, C] in the unit of the metrics."""
        found = self.known.first(values, self.options.horizon)
        return found if self.options.scaled else self.known.own(found)

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        true, found = self._judged(truths), self._judged([a.value for a in answers])
        out = {"mse": forecast.squared(true, found).mean(), "mae": forecast.absolute(true, found).mean()}
        unit = 1.0 if self.options.scaled else np.array(self.known.scale)
        out["mase"] = forecast.absolute(true / unit, found / unit).mean() / self.known.naive
        levels = {0.5: found}
        if all(a.quantiles is not None for a in answers):
            levels = {q: self._judged([a.quantiles[q] for a in answers]) for q in QUANTILES}
            out["coverage"] = forecast.coverage(true, levels[QUANTILES[0]], levels[QUANTILES[-1]])
        out["crps"] = forecast.crps(true, levels).mean()
        for first in self.options.horizons:
            out[f"mse_of_the_first_{first}"] = forecast.squared(true[:, :first], found[:, :first]).mean()
        return {name: float(value) for name, value in out.items()}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        return forecast.squared(self._judged(truths), self._judged([a.value for a in answers]))

    def features(self) -> Any:
        """The last points of each channel, [n, C * W], oldest first; a missing one is the one before it."""
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: self.known.last(values, self._window))

    @property
    def _window(self) -> int:
        """Points that simple forecasts see: as many as ours, and a season."""
        return max(self.length, self.known.period)

    def baselines(self) -> dict[str, Any]:
        from onetrunk.columns._rivals import Linear, SeasonalNaive

        shape, period = (self.channels, self._window, self.options.horizon), self.known.period
        found = {"seasonal naive": SeasonalNaive(*shape, period)} if period > 1 else {}
        return found | {"last value": SeasonalNaive(*shape, 1), "linear": Linear(*shape, period)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        """[n, H * C] in own units, NaN where a point is missing."""
        return self.known.own(self.known.first(values, self.options.horizon)).reshape(len(values), -1)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        found = estimator.predict(features).reshape(-1, self.options.horizon, self.channels)
        return [Answer(self.known.written(x)) for x in found]

    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """One row's history, what came and what was answered, with its 90 % interval; of its first channel."""
        i, H = len(answers) // 2, self.options.horizon
        past = None if before is None else read(before[i])[1][-max(2 * H, 4 * self.known.period) :, 0]
        shown = [truths[i], answers[i].value, *(answers[i].interval or ())]
        plot(axes, past, *self.known.own(self.known.first(shown, H))[..., 0])
        return True


def _beside(blocks: Sequence[np.ndarray], m: int) -> np.ndarray:
    """Blocks of m documents each, document after document."""
    shaped = [block.reshape(m, -1, *block.shape[1:]) if m else block[None][:0] for block in blocks]
    joined = np.concatenate(shaped, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def _weighed(targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A position weighs as much of it is there."""
    return {**targets, "w": targets["there"].mean(1)}


def _tensors(content: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in content.items()}


CODEC = Series
