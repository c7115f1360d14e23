"""What the other processes do of a training run: at rank 0's word they make the same steps, each of its own shares.

Each has the whole model, a whole optimizer and the sum of all gradients (`engine.shares`), so that all models stay the
same: what is called DDP, without the wrapper of `torch.nn.parallel`, which adds gradients in an order that depends on
the number of processes, and knows one backward pass a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from onetrunk.core.kernels import kernels
from onetrunk.engine.losses import Weights
from onetrunk.engine.memory import keep_freed_memory
from onetrunk.engine.mode import Mode, set_compiled
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.shares import is_mine
from onetrunk.engine.signals import Signals
from onetrunk.engine.step import MicroBatch, NotFiniteError, Step, StepSettings, Updates
from onetrunk.engine.world import World


@runtime_checkable
class Divided(Protocol):
    """Batches that can be made one by one."""

    def part(self, step: int, wanted: Callable[[int], bool]) -> Sequence[MicroBatch | None]:
        """The step's micro-batches, None for those that are not wanted."""


Batches = Callable[[int], Sequence[MicroBatch]]


def own_batches(batches: Batches, step: int, shares: int, world: World) -> Sequence[MicroBatch | None]:
    """A step's micro-batches, None for those that other processes have."""
    if world.alone:
        return batches(step)
    if isinstance(batches, Divided):
        return batches.part(step, lambda index: is_mine(world, shares, index))
    return [batch if is_mine(world, shares, index) else None for index, batch in enumerate(batches(step))]


@dataclass
class StepsTogether:
    """A `Task`: the steps of one run, from the state in which rank 0 begins."""

    module: nn.Module
    batches: Batches
    updates: Updates
    settings: StepSettings
    kernels: Any
    seed: int
    shares: int
    mode: Mode
    optimizer: Mapping[str, Tensor]
    levels: dict[str, float]
    device: str  # its kind

    def __call__(self, world: World) -> None:
        runtime = Runtime.open(self.device)
        runtime.place(self.module)
        self.module.train()
        keep_freed_memory()
        weights = Weights(self.settings.loss_weights, self.settings.balance == "learnt")
        weights.levels = self.levels
        step = Step(self.module, self.settings, self.updates, runtime, self.seed, weights, self.mode.muon, self.shares)
        step.load_tensors(self.optimizer)
        compiled = False
        try:
            with kernels(self.kernels), Signals():  # rank 0, which has got the same signal, says when to stop
                while (told := world.hear()) is not None:
                    number, scale, self.mode = told
                    if self.mode.compiled != compiled:
                        compiled = self.mode.compiled
                        set_compiled(self.updates.blocks, compiled)
                    batches = own_batches(self.batches, number, self.shares, world)
                    step(number, batches, scale, lambda: self.mode.context(runtime.device))
        except NotFiniteError:
            return  # rank 0 tells of it
        finally:
            if compiled:
                set_compiled(self.updates.blocks, False)
