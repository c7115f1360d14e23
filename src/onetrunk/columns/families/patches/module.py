"""Patches in the network: denoised in one loss, made from noise step by step."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.columns.families.patches.encoder import PatchEncoder
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.encoder import Encoder
from onetrunk.core.module import ColumnModule, Guided
from onetrunk.nn.heads.flow import denoised, ode_step

E = TypeVar("E", bound=Encoder)
P = TypeVar("P", bound=PatchEncoder)


class FlowModule(ColumnModule[E], Guided):
    """What all flows do. A state's `patches` [n, t, numbers of a patch] go from noise to what is answered; `taken` of
    `steps` are done."""

    head: nn.Module  # reads the clean patch

    def denoising_loss(self, h: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Each read's squared error of the clean patch, as the velocity's: float32 [r]."""
        return (self.head(h).float() - targets["patch"]).square().mean(-1) * targets["velocity"]

    def level(self, state: State) -> Tensor:
        """The level that each answer has reached, [n]."""
        return state["taken"].float() / state["steps"]

    def denoise(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        """One step from noise to the answer, of the first t patches: h [n, t, D]."""
        clean = denoised(self.head, h, unconditional, state["guidance"])
        patches = ode_step(state["patches"][:, : h.shape[1]], clean, state["taken"], state["steps"])
        taken = state["taken"] + 1
        return {**state, "done": taken >= state["steps"], "patches": patches, "taken": taken}


class PatchModule(FlowModule[P]):
    """Of values of one size. A type says how they are embedded (`embed` of `pixels` and `level`)."""

    def pixels(self, patches: Tensor) -> Tensor:
        """[n, patches, numbers of a patch] to values [n, *shape]."""
        grid = self.encoder.grid
        split = patches.reshape(len(patches), *grid.ordered).permute(0, *(1 + i for i in grid.back))
        return split.reshape(len(patches), *grid.shape)

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        losses = self.denoising_loss(h, targets)
        return Loss((losses * targets["w"]).sum(), targets["w"].sum(), losses.detach())

    def start(self, context: AnswerContext) -> State:
        state = context.state("guidance", "steps")
        noise = context.tensor(self.encoder.noise(context.keys))
        return {**state, "patches": noise, "taken": torch.zeros_like(state["steps"])}

    def query(self, state: State) -> Query:
        grid = self.encoder.grid
        level = self.level(state)[:, None].expand(-1, grid.count)
        content = {"pixels": self.pixels(state["patches"]), "level": level}
        return Query(content, t=self.encoder.prefix_count + grid.count)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        first = self.encoder.prefix_count
        without = None if unconditional is None else unconditional[:, first:]
        return self.denoise(state, h[:, first:], without)

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.full_like(prompt, self.encoder.prefix_count + self.encoder.grid.count)

    def finish(self, state: State) -> list[Answer]:
        x = self.pixels(state["patches"]).clamp(-1, 1)
        arrays = ((x + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
        return [Answer(self.encoder.value(array)) for array in arrays]
