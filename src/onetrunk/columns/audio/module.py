"""Recordings in the network: convolutions over time and bands, then a position for each patch.

Asked, a slot answers how many patches there will be; then all of them go from noise to sound together."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.audio.encoder import NOTHING, SLOT, AudioEncoder
from onetrunk.columns.families.patches.module import FlowModule
from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.nn.heads.distribution import BarDistribution
from onetrunk.nn.heads.flow import SINUSOIDS, sinusoidal_embedding


class AudioModule(FlowModule[AudioEncoder]):
    read_out = ("head", "length_head")

    def __init__(self, encoder: AudioEncoder, width: int) -> None:
        super().__init__(encoder, width)
        stem, step, bands = self.options.stem, self.options.step, self.options.bands
        self.narrow = nn.Conv2d(1, stem, 3, padding=1, stride=(1, 2))
        self.wide = nn.Conv2d(stem, 2 * stem, 3, padding=1, stride=(1, 2))
        self.deep = nn.Conv2d(2 * stem, 2 * stem, 3, padding=1)
        self.to_width = nn.Linear(2 * stem * step * -(-bands // 4), width)
        self.level_embedding = nn.Linear(SINUSOIDS, width)
        self.position_embedding = nn.Linear(SINUSOIDS, width)  # of how far through the recording a patch stands
        self.slot = nn.Parameter(torch.zeros(width))
        self.lengths = BarDistribution(**encoder.length_bars.knowledge())
        self.head = nn.Linear(width, encoder.patch_size)
        nn.init.zeros_(self.head.weight)
        self.length_head = self.lengths.read_out(width)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        position, count = content["position"], content["count"]
        through = (position + 0.5) / count.clamp(min=1)  # how far through it: only where the length is known
        x = self._stem(content["mel"], position) + self.level_embedding(sinusoidal_embedding(content["level"]))
        x = x + torch.where((count > 0)[:, None], self.position_embedding(sinusoidal_embedding(through)), 0.0)
        return torch.where((position == SLOT)[:, None], self.slot, x)

    def _stem(self, mel: Tensor, position: Tensor) -> Tensor:
        """Convolutions over time and bands, all recordings on one axis of time with a silent patch between, so that
        none hears its neighbour; [n, numbers of a patch] to [n, D]."""
        step, bands = self.options.step, self.options.bands
        row = (position >= 0).nonzero()[:, 0]
        index = torch.arange(len(row), device=mel.device) + (position[row] == 0).cumsum(0)
        total = len(row) + int((position == 0).sum()) + 1
        total = -(-total // 64) * 64  # few different shapes: kernels are made for each
        line = mel.new_zeros(total, step * bands).index_copy(0, index, mel[row]).view(1, 1, total * step, bands)
        there = mel.new_zeros(total).index_fill(0, index, 1.0).repeat_interleave(step)[:, None]
        x = F.gelu(self.narrow(line)) * there
        x = F.gelu(self.wide(x)) * there
        x = x + F.gelu(self.deep(x)) * there
        out = self.to_width(x[0].transpose(0, 1).reshape(total, -1)[index])
        return out.new_zeros(len(position), out.shape[1]).index_copy(0, row, out)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """Of patches the flow's, of the slot the negative log density of the length (nats)."""
        slot, w = targets["position"] == SLOT, targets["w"]
        of_length = self.lengths.loss(self.length_head(h).float(), targets["length"])
        losses = torch.where(slot, of_length, self.denoising_loss(h, targets))
        return Loss((losses * w).sum(), w.sum(), losses.detach())

    def start(self, context: AnswerContext) -> State:
        """`phase` 0 asks for the length, 1 goes from noise to sound."""
        state = context.state("temperature", "max_length", "guidance", "steps")
        return {**state, "phase": torch.zeros_like(state["steps"]), "taken": torch.zeros_like(state["steps"])}

    def query(self, state: State) -> Query:
        """The slot first; then all patches, again and again, from noise to sound."""
        n, size, device = len(state["done"]), self.encoder.patch_size, state["done"].device
        if not int(state["phase"][0]):
            count = torch.zeros(n, dtype=torch.int64, device=device)
            content = {"mel": torch.zeros(n, size, device=device), "level": torch.zeros(n, device=device)}
            return Query({**content, "position": torch.full_like(count, SLOT), "count": count}, t=1, keep=True)
        length = state["length"]
        t = int(length.max())
        position = torch.arange(t, device=device).expand(n, -1)
        valid = position < length[:, None]
        content = {
            "mel": state["patches"][:, :t].flatten(0, 1),
            "level": self.level(state).repeat_interleave(t),
            "position": torch.where(valid, position, NOTHING).flatten(),
            "count": length.repeat_interleave(t),
        }
        return Query(content, t=t, pos=1, valid=valid)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        if int(state["phase"][0]):
            return self.denoise(state, h, unconditional)
        return {**state, "phase": state["phase"] + 1, **self._first_noise(state, h[:, 0])}

    def _first_noise(self, state: State, h: Tensor) -> State:
        """How long each answer will be, the median unless drawn, and the noise it begins as."""
        keys, temperature = state_keys(state), state["temperature"]
        logits = self.length_head(h).float()
        u = torch.from_numpy(rng.uniform(rng.mix(keys, "length"), 1)).to(h.device)
        median = self.lengths.quantile(logits, torch.full_like(u, 0.5))
        drawn = self.lengths.sample(logits, u, torch.where(temperature > 0, temperature, 1))
        chosen = torch.where(temperature[:, None] > 0, drawn, median)[:, 0]
        longest = state["max_length"].clamp(max=self.options.length)
        length = torch.minimum((chosen * self.encoder.longest).round().long(), longest).clamp(min=1)
        lens = np.full(len(keys), int(length.max()) if len(keys) else 1)
        noise = self.encoder.noise(lens, keys).reshape(len(keys), -1, self.encoder.patch_size)
        return {"length": length, "patches": torch.from_numpy(noise).to(h.device)}

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.full_like(prompt, 1 + max(1, min(self.options.length, sampling.max_length)))

    def finish(self, state: State) -> list[Answer]:
        """WAV files."""
        encoder = self.encoder
        mel = (state["patches"] * encoder.scale + encoder.mean).cpu().numpy()
        return [
            Answer(encoder.sound_of(patches[:length].reshape(-1, encoder.options.bands)))
            for patches, length in zip(mel, state["length"].tolist(), strict=True)
        ]
