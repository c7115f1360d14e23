"""Optimizers by name, each exactly PyTorch's own, and Muon with its Newton-Schulz steps batched.

State is a flat dict of tensors named `<parameter>.<key>`, so that a checkpoint is safetensors and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError

Name = Literal["sgd", "momentum", "adagrad", "adam", "adamw", "muon"]


class OptimConfig(Config):
    """`lr` is the peak; with `muon` it serves embeddings, read-outs and vectors, and `muon_lr` the matrices.

    `weight_decay` falls on matrices only; it is decoupled in adamw and muon, an L2 penalty in the others.
    """

    optimizer: Name = "muon"
    lr: float = 3e-3
    muon_lr: float = 0.02
    weight_decay: float = 0.01


class Optimizer:
    """One or two `torch.optim` optimizers over named parameters, stepped as one."""

    def __init__(self, parts: list[torch.optim.Optimizer], names: Mapping[Tensor, str]) -> None:
        self.parts, self.names = parts, names
        self._peaks = [(group, group["lr"]) for part in parts for group in part.param_groups]

    def step(self, factor: float) -> None:
        """One update at `factor` times the peak learning rates."""
        for group, peak in self._peaks:
            group["lr"] = peak * factor
        for part in self.parts:
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """The whole state. A parameter that never had a gradient has none."""
        return {
            f"{self.names[parameter]}.{key}": value
            for part in self.parts
            for parameter, state in part.state.items()
            for key, value in state.items()
            if value is not None
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`; a state not in it starts anew, so the caller checks that all are there."""
        for part in self.parts:
            for group in part.param_groups:
                for parameter in group["params"]:
                    prefix = self.names[parameter] + "."
                    saved = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                    # PyTorch keeps the step count of unfused optimizers on the CPU.
                    part.state[parameter] = {
                        k: v if k == "step" and not group.get("fused") else v.to(parameter.device)
                        for k, v in saved.items()
                    }
