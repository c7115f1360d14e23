"""What the other processes do of a training run: at rank 0's word they make the same steps, each of its own shares.

Each has the whole model, a whole optimizer and the sum of all gradients (`engine.shares`), so that all models stay the
same: what is called DDP, without the wrapper of `torch.nn.parallel`, which adds gradients in an order that depends on
the number of processes, and knows one backward pass a step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from onetrunk.core.kernels import kernels
from onetrunk.engine.ahead import Ahead
from onetrunk.engine.losses import Weights
from onetrunk.engine.memory import give_back_freed_memory, keep_freed_memory
from onetrunk.engine.mode import Mode, set_compiled
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.sharded import ShardedStep
from onetrunk.engine.shares import is_mine
from onetrunk.engine.signals import Signals
from onetrunk.engine.step import MicroBatch, NotFiniteError, Step, StepResult, Updates
from onetrunk.engine.world import World

if TYPE_CHECKING:
    from onetrunk.engine.trainer import TrainConfig


@runtime_checkable
class Divided(Protocol):
    """Batches that can be made one by one."""

    def part(self, step: int, wanted: Callable[[int], bool]) -> Sequence[MicroBatch | None]:
        """The step's micro-batches, None for those that are not wanted."""


Batches = Callable[[int], Sequence[MicroBatch]]


def own_batches(batches: Batches, step: int, config: TrainConfig, runtime: Runtime) -> Sequence[MicroBatch | None]:
    """A step's micro-batches, None for those that other processes have. Of sharded weights each process needs one, if
    only for passes that do not count: who has none gets the first. What a CUDA device will copy is pinned."""
    own = _own(batches, step, config, runtime.world)
    if runtime.device.type != "cuda":
        return own
    return [batch if batch is None else batch.pinned() for batch in own]


def _own(batches: Batches, step: int, config: TrainConfig, world: World) -> Sequence[MicroBatch | None]:
    if world.alone:
        return batches(step)
    shares = world.size if config.sharded else config.shares
    own = _part(batches, step, lambda index: is_mine(world, shares, index))
    if config.sharded and not any(batch is not None for batch in own):
        return _part(batches, step, lambda index: index == 0)
    return own


def _part(batches: Batches, step: int, wanted: Callable[[int], bool]) -> Sequence[MicroBatch | None]:
    if isinstance(batches, Divided):
        return batches.part(step, wanted)
    return [batch if wanted(index) else None for index, batch in enumerate(batches(step))]


@torch.no_grad()
def move_average(average: Mapping[str, Tensor], parameters: Mapping[str, Tensor], ema: float, step: int) -> None:
    """Moves the average of weights towards them, after `step`; its memory grows, so that the start is forgotten."""
    if average:
        decay = min(ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.values()), [parameters[name] for name in average], 1 - decay)


@dataclass
class StepsTogether:
    """A `Task`: the steps of one run, from the state in which rank 0 begins. In the weights that are `sharded` rank 0
    has a part, as the others have: it does the same, with a copy of its module."""

    module: nn.Module
    batches: Batches
    updates: Updates
    config: TrainConfig
    seed: int
    mode: Mode
    optimizer: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    levels: dict[str, float]
    device: str  # its kind

    def begin(self) -> None:
        """Places everything on this process's device. What it was made of, a file that processes share or the tensors
        of rank 0, is left as it was: parts of sharded weights are copies in any case."""
        runtime = Runtime.open(self.device)
        for tensor in (*self.module.buffers(), *(() if self.config.sharded else self.module.parameters())):
            tensor.data = tensor.data.clone()
        runtime.place(self.module)
        self.module.train()
        weights = Weights(self.config.loss_weights, self.config.balance == "learnt")
        weights.levels = self.levels
        arguments = self.module, self.config, self.updates, runtime, self.seed, weights, self.mode.muon
        self.made = ShardedStep(*arguments) if self.config.sharded else Step(*arguments, self.config.shares)
        if isinstance(self.made, ShardedStep):
            self.made.load_tensors(self.optimizer)
            self.made.load_average(self.average)
        else:
            self.made.load_tensors({name: tensor.clone() for name, tensor in self.optimizer.items()})
        self.optimizer, self.average = {}, {}
        runtime.world.forget_file()
        self._compiled = False
        make = partial(own_batches, self.batches, config=self.config, runtime=runtime)
        self._own_batches = Ahead(make, self.config.steps - 1, runtime.device)

    def step(
        self, number: int, scale: float, mode: Mode, batches: Sequence[MicroBatch | None] | None = None
    ) -> StepResult:
        """Of the batches that this process has, which it makes where they are not there. Raises NotFiniteError."""
        if mode.compiled != self._compiled:
            self._compiled = mode.compiled
            set_compiled(self.updates.blocks, mode.compiled)
        runtime = self.made.runtime
        if batches is None:
            batches = self._own_batches(number)
        result = self.made(number, batches, scale, lambda: mode.context(runtime.device))
        if isinstance(self.made, ShardedStep):
            move_average(self.made.average, self.made.shards.own, self.config.ema, number)
        return result

    def __call__(self, world: World) -> None:
        keep_freed_memory() if self.config.keeps_freed_memory(world.alone) else give_back_freed_memory()
        self.begin()
        try:
            with kernels(self.config.kernels), Signals():  # rank 0, which has got the same signal, says when to stop
                while (told := world.hear()) is not None:
                    what, *rest = told
                    with contextlib.suppress(NotFiniteError):  # rank 0 tells of it, and what comes next
                        getattr(self, what)(*rest)
        finally:
            self.end()

    @torch.no_grad()
    def weights(self, weights: Mapping[str, Tensor] = {}, average: Mapping[str, Tensor] = {}) -> None:
        """Puts sharded ones together, and into these tensors, which rank 0 has."""
        assert isinstance(self.made, ShardedStep)
        for name, weight, mean in self.made.whole_weights():
            if name in weights:
                weights[name].copy_(weight)
            if mean is not None and name in average:
                average[name].copy_(mean)

    def state(self) -> dict[str, Tensor]:
        """The optimizer's, whole in rank 0."""
        return self.made.tensors()

    def end(self) -> None:
        self._own_batches.close()
        if self._compiled:
            set_compiled(self.updates.blocks, False)
