"""Optimizers by name, each exactly PyTorch's own, and Muon with its Newton-Schulz steps batched.

State is a flat dict of tensors named `<parameter>.<key>`, so that safetensors can hold all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError
from onetrunk.engine import eight_bits

Decay = Annotated[float, Field(ge=0, lt=1)]  # of a moving average
_FEW = 16  # parameters whose state has 32 bits at once
Name = Literal["sgd", "momentum", "adagrad", "adam", "adamw", "muon"]


class OptimConfig(Config):
    """`lr` is the peak; with `muon` it serves embeddings, read-outs and vectors, and `muon_lr` the matrices.

    `weight_decay` falls on matrices only; it is decoupled in adamw and muon, an L2 penalty in the others.
    """

    optimizer: Name = "muon"
    lr: float = Field(3e-3, ge=0, le=1000)
    muon_lr: float = Field(0.02, ge=0, le=1000)
    weight_decay: float = Field(0.01, ge=0, le=1000)
    momentum: float = Field(0.9, ge=0, lt=1)  # of the optimizer `momentum`
    betas: tuple[Decay, Decay] = (0.9, 0.95)  # of adam and adamw
    optimizer_bits: Literal[8, 32] = 32  # of a number that the optimizer keeps between steps; Muon's have 32


class Optimizer:
    """`torch.optim` optimizers over named parameters, stepped as one."""

    def __init__(self, optimizers: list[torch.optim.Optimizer], names: Mapping[Tensor, str]) -> None:
        self.optimizers, self.names = optimizers, names
        self._peaks = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]

    def step(self, factor: float) -> None:
        """One update at `factor` times the peak learning rates."""
        for group, peak in self._peaks:
            group["lr"] = peak * factor
        for optimizer in self.optimizers:
            self._step(optimizer)

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as it is held, by name. A parameter that never had a gradient has none."""
        state = {
            f"{self.names[parameter]}.{key}": value
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
            if value is not None
        }
        return dict(sorted(state.items()))

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`; what is not in it starts anew, so the caller checks that all is there."""
        saved: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            parameter_name, _, key = name.rpartition(".")
            saved.setdefault(parameter_name, {})[key] = tensor
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    # PyTorch keeps the step count of unfused optimizers on the CPU.
                    optimizer.state[parameter] = {
                        key: value if key == "step" and not group.get("fused") else value.to(parameter.device)
                        for key, value in saved.get(self.names[parameter], {}).items()
                    }


class EightBitOptimizer(Optimizer):
    """Its state has 8 bits between steps (`engine.eight_bits`): only what one of the optimizers steps has 32. Not
    Muon's: in directions that gradients lack it would be noise, which orthogonalising makes as large as the rest."""

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        if isinstance(optimizer, Muon):
            return super()._step(optimizer)
        for state in optimizer.state.values():
            eight_bits.unpack(state)
        optimizer.step()
        for state in optimizer.state.values():
            eight_bits.pack(state)


def build_optimizer(
    parameters: Mapping[str, nn.Parameter],
    config: OptimConfig,
    muon_bf16: bool = False,
    hidden: Collection[nn.Parameter] = (),
    rates: Mapping[nn.Parameter, float] | None = None,
) -> Optimizer:
    """The optimizer of parameters by name, those that are trainable. Raises UsageError when there are none,
    MissingExtraError for state in 8 bits without its library.

    Under `muon`, what is `hidden` (matrices between embeddings and read-outs, and convolutions) gets Muon, the rest
    AdamW. `rates`: what learns at a share of the learning rate.
    """
    named = {parameter: name for name, parameter in parameters.items() if parameter.requires_grad}
    if not named:
        raise UsageError("Nothing to train: every parameter of the model is frozen.")
    rates, muon = rates or {}, config.optimizer == "muon"
    eight = config.optimizer_bits == 8
    optimizers: list[torch.optim.Optimizer] = []
    if orthogonal := [p for p in named if muon and p in hidden]:
        groups = _groups(orthogonal, config.muon_lr, config.weight_decay, rates)
        optimizers.append(Muon(groups, config.muon_lr, bf16=muon_bf16))
    rest = [p for p in named if not (muon and p in hidden)]
    at_once = _FEW if eight else max(1, len(rest))
    for i in range(0, len(rest), at_once):
        name: Name = "adamw" if config.optimizer == "muon" else config.optimizer
        optimizers.append(_torch_optimizer(name, rest[i : i + at_once], config, rates))
    return (EightBitOptimizer if eight else Optimizer)(optimizers, dict(named.items()))


def _torch_optimizer(
    name: Name, parameters: list[nn.Parameter], config: OptimConfig, rates: Mapping[nn.Parameter, float]
) -> torch.optim.Optimizer:
    groups, lr = _groups(parameters, config.lr, config.weight_decay, rates), config.lr
    if name == "sgd":
        return torch.optim.SGD(groups, lr)
    if name == "momentum":
        return torch.optim.SGD(groups, lr, momentum=config.momentum)
    if name == "adagrad":
        return torch.optim.Adagrad(groups, lr)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, lr, betas=config.betas, fused=True)


def _groups(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, rates: Mapping[nn.Parameter, float]
) -> list[dict[str, Any]]:
    """Matrices (and higher) decay; vectors do not. Each rate is a group of its own."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault((parameter.ndim >= 2, rates.get(parameter, 1.0)), []).append(parameter)
    return [
        {"params": members, "lr": lr * rate, "weight_decay": weight_decay if decays else 0.0}
        for (decays, rate), members in groups.items()
    ]


class Sharding(Protocol):
    """How parameters are divided among processes, each of which has a part of its own (`engine.sharded`)."""

    def shape(self, parameter: Tensor) -> torch.Size:
        """Of the whole."""

    def whole(self, parameter: Tensor, part: Tensor) -> Tensor:
        """Everyone's parts of something that is divided as the parameter is, together. All processes ask at once."""

    def part(self, parameter: Tensor, whole: Tensor) -> Tensor:
        """This process's."""


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for matrices (Keller Jordan 2024, https://kellerjordan.github.io/posts/muon).

    Matrices of one shape are orthogonalised in one batched product: the same bits as a loop, only faster. A convolution
    is the matrix of its output channels by all that each of them sees. Of matrices that are divided among processes
    (`sharding`) the whole is orthogonalised, in each of them.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float = 0.95, bf16: bool = False) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})
        self.bf16 = bf16
        self.sharding: Sharding | None = None

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: who calls it has computed the gradients
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shape = parameter.shape if self.sharding is None else self.sharding.shape(parameter)
                    by_shape.setdefault(shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                self._update(parameters, shape, group)

    def _update(self, parameters: list[nn.Parameter], shape: torch.Size, group: dict[str, Any]) -> None:
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        weights: list[Tensor] = list(parameters)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        nesterov = list(torch._foreach_lerp(grads, buffers, group["momentum"]))
        if self.sharding is not None:
            nesterov = [self.sharding.whole(*pair) for pair in zip(parameters, nesterov, strict=True)]
        matrices = torch.stack(nesterov).flatten(2)
        updates = list(orthogonalise(matrices, self.bf16).to(parameters[0].dtype).view(-1, *shape))
        if self.sharding is not None:
            updates = [self.sharding.part(*pair) for pair in zip(parameters, updates, strict=True)]
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        scale = max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5  # one root-mean-square for tall and wide ones
        torch._foreach_add_(weights, updates, alpha=-group["lr"] * scale)


def orthogonalise(g: Tensor, bf16: bool = False, steps: int = 5) -> Tensor:
    """[k, r, c] to about U V^T of each matrix's singular value decomposition, by quintic Newton-Schulz steps.

    Singular values end in about [0.7, 1.2], not at 1: Jordan's coefficients are chosen for speed near zero.
    """
    x = g.bfloat16() if bf16 else g
    tall = g.shape[1] > g.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return x.mT if tall else x
