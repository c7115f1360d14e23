"""Series in the network: a forecast is a linear map of the history (as DLinear, arXiv 2205.13504; fitted by ridge
regression) that the trunk corrects: its mean and its quantiles, and whole paths by flow matching.

C channels, L points of history, H points asked, P points a patch, N patches seen, K patches asked, Q quantiles.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.columns.series.encoder import PATH, QUANTILES, SEEN, SLOT, SeriesEncoder
from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss, tensors_of
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.errors import UsageError
from onetrunk.core.module import ColumnModule, Expected
from onetrunk.nn.heads.flow import SINUSOIDS, broadcast_like, ode_step, sinusoidal_embedding
from onetrunk.nn.heads.forecast import Forecast
from onetrunk.nn.init import normal


class SeriesModule(ColumnModule[SeriesEncoder], Expected):
    def __init__(self, encoder: SeriesEncoder, width: int) -> None:
        super().__init__(encoder, width)
        options, P, K = encoder.options, encoder.options.patch, encoder.asked_patches
        positions = max(encoder.seen_patches, encoder.given_patches) + K
        self.line = nn.Linear(2 * P + 2, width)
        self.kind = nn.Parameter(normal(4, width, std=0.05))
        self.position_embedding = nn.Parameter(normal(positions, width, std=0.05))
        self.channel_embedding = nn.Parameter(torch.zeros(len(encoder.channels), width))
        self.head = Forecast(width, encoder.length, K, P, QUANTILES, options.paths, options.dropout)
        if encoder.linear is not None:
            self.head.line.copy_(torch.from_numpy(encoder.linear.T))
        if options.paths:
            self.noisy = nn.Linear(P + SINUSOIDS, width)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        kind, patch = content["kind"], content["patch"]
        x = self.kind[kind] + self.position_embedding[content["position"]] + self.channel_embedding[content["channel"]]
        x = x + torch.where((kind == SEEN)[:, None], self.line(patch), 0.0)
        if self.options.paths:
            level = sinusoidal_embedding(content["level"])
            inputs = torch.cat([patch[:, : self.options.patch], level], dim=1)
            x = x + torch.where((kind == PATH)[:, None], self.noisy(inputs), 0.0)
        return x

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Of values normed by the history, so that a series counts as much as one that moves more."""
        losses, w = self.head.loss(h, targets), targets["w"]
        return Loss((losses * w).sum(), w.sum(), losses.detach())

    def expected(self, h: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """The mean of each patch of the forecast, in standard deviations of its channel."""
        mean = self.head(h, self.head.linear(targets["past"], targets["slot"]))[..., 0]
        asked = targets["slot"][:, None] * mean.shape[1] + torch.arange(mean.shape[1], device=h.device)
        asked = (asked < self.options.horizon).to(mean.dtype)
        centre, scale = targets["norm"].unbind(1)
        return centre + scale * (mean * asked).sum(1) / asked.sum(1).clamp(min=1)

    @property
    def units(self) -> tuple[float, float, str]:
        channels = self.encoder.channels
        if len(channels) > 1:
            return 0.0, 1.0, "standard deviations"
        return channels.centre[0], channels.scale[0], ""

    def start(self, context: AnswerContext) -> State:
        """`phase` 0 reads the history, 1 the slots, 2 is every step of a path."""
        encoder, n = self.encoder, context.n
        if not self.options.paths and any(sampling.temperature > 0 for sampling in context.sampling):
            raise UsageError(
                "Paths are drawn only of a series that has learnt it: train it with the option paths=true."
            )
        C, N, P, K = len(encoder.channels), encoder.seen_patches, self.options.patch, encoder.asked_patches
        seen = np.full((n, C, N * P), np.nan)
        if context.prompt is not None:
            seen = encoder.history(context.prompt)
        centre, scale = encoder.channels.norm(seen)
        sizes = np.array(encoder.channels.scale)
        arrays = {
            "patch": encoder.patches(seen.reshape(n, C, N, P), centre, scale)["patch"].reshape(n, C * N, -1),
            "past": encoder.normed_history(seen, centre, scale),
            # In own units: a small series lies so near the others' mean that float32 would lose it.
            "norm": np.stack([centre * sizes + encoder.channels.centre, scale * sizes], axis=-1),
            "path": rng.normal(rng.mix(context.keys, "noise"), C, K, P),
        }
        state = context.state("temperature", "steps")
        state |= {name: context.tensor(array.astype(np.float32)) for name, array in arrays.items()}
        state["path"] = broadcast_like(state["temperature"], state["path"]) * state["path"]
        return {**state, "phase": torch.zeros_like(state["steps"]), "taken": torch.zeros_like(state["steps"])}

    def query(self, state: State) -> Query:
        encoder, n, phase = self.encoder, len(state["done"]), int(state["phase"][0])
        C, N, K, P = len(encoder.channels), encoder.seen_patches, encoder.asked_patches, self.options.patch
        device = state["patch"].device
        if phase == 0:
            blank = encoder.patches(np.full((n, C, N, P), np.nan), np.zeros((n, C)), np.ones((n, C)))
            content = tensors_of(blank, device) | {"patch": state["patch"].flatten(0, 1)}
            return Query(content, t=C * N, keep=True)
        content = tensors_of(encoder.slots(n, SLOT if phase == 1 else PATH), device)
        if phase > 1:
            content["patch"][:, :P] = state["path"].flatten(0, 2)
            level = state["taken"].float() / state["steps"]
            content["level"] = level.repeat_interleave(C * K).view_as(content["level"])
        return Query(content, t=C * K, keep=phase == 1, pos=C * (N + K * (phase > 1)))

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        n, phase = len(h), int(state["phase"][0])
        C, K, P = len(self.encoder.channels), self.encoder.asked_patches, self.options.patch
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
        encoder = self.encoder
        positions = len(encoder.channels) * (encoder.seen_patches + 2 * encoder.asked_patches)
        return np.full_like(prompt, positions)

    def finish(self, state: State) -> list[Answer]:
        """The mean with quantiles and a central 90 % interval; where paths are drawn, one of them."""
        H, channels = self.options.horizon, self.encoder.channels
        centre, scale = state["norm"].cpu().double()[..., None].unbind(2)

        def own(x: Tensor) -> np.ndarray:  # [n, C, points] to [n, H, C]
            return (x[..., :H].cpu().double() * scale + centre).numpy().transpose(0, 2, 1)

        mean, *quantiles = (own(x) for x in state["forecast"].unbind(-1))
        levels = np.sort(np.stack(quantiles), axis=0)
        is_path = (state["taken"] > 0).cpu().numpy()
        values = np.where(is_path[:, None, None], own(state["path"].flatten(2)), mean)
        low, high = np.minimum(levels[0], values), np.maximum(levels[-1], values)
        written = channels.written
        return [
            Answer(
                written(value),
                interval=(written(low[i]), written(high[i])),
                coverage=QUANTILES[-1] - QUANTILES[0],
                samples=[written(value)] if is_path[i] else None,
                quantiles={q: written(level[i]) for q, level in zip(QUANTILES, levels, strict=True)},
            )
            for i, value in enumerate(values)
        ]
