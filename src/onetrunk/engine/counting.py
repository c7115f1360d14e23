"""Counts what a training step takes, on the module itself: numbers, bytes, operations of the optimizer.

The module's parameters may be fake (`fake()`): PyTorch then goes through forward, backward and update without computing
or holding anything, whatever the size.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from onetrunk.engine.heap import heap_bytes
from onetrunk.engine.mode import Mode
from onetrunk.engine.optim import OptimConfig, Optimizer
from onetrunk.engine.shares import add_up, presence
from onetrunk.engine.step import Updates, recompute, sum_of_squares
from onetrunk.engine.world import ImaginedWorld


@dataclass(frozen=True)
class Counts:
    """Of a step of one micro-batch. Bytes, but for `parameters` (numbers) and `update_operations`. Averages of the
    weights are as large as the weights."""

    parameters: float
    weights: float
    gradients: float
    optimizer: float  # what it keeps between steps
    activations: float  # what the forward pass leaves for the backward pass
    loss: float  # held besides, while the loss is computed
    passes: float  # the most that forward and backward hold beyond weights and `optimizer`: also the new gradients
    update: float  # the most that the update holds beyond these: gradients, and what it makes of them
    update_operations: float  # floating-point operations of its products (Muon's)
    heap: float = 0.0  # what the heap holds at its fullest beyond all that there is: gaps between tensors

    def line(self, other: Self, step: float) -> Self:
        """self + step (other - self): what depends on the number of equal blocks is a line in it."""
        return type(self)(*(a + step * (b - a) for a, b in zip(astuple(self), astuple(other), strict=True)))


@contextmanager
def fake() -> Iterator[None]:
    """Modules built inside have shapes and no numbers."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def count(
    module: nn.Module,
    batch: Any,
    config: OptimConfig,
    mode: Mode,
    updates: Updates = Updates(),  # noqa: B008
    *,
    recomputed: bool = False,
    heap_of: int = 0,
    micro_batches: int = 1,
    averaged: bool = False,
    processes: int = 1,
) -> Counts:
    """Goes through one step of the module. `batch` holds real tensors: what it says of lengths and roles is read.

    Args:
        recomputed: are activations of blocks computed again (`train.activation_checkpointing`)? Then the heap keeps
            nothing that is freed (`engine.memory`).
        heap_of: so many steps are gone through, to find out what the heap of a CPU takes for them; 0: it is not asked.
        micro_batches: of a step. averaged: is an average of the weights kept? processes: that share a step, each with
            all weights; only the heap depends on them.
    """
    module.train()
    recompute(updates.blocks, recomputed)
    weights = sum(p.untyped_storage().nbytes() for p in module.parameters())
    with _Live() as live:
        with mode.context(torch.device("cpu")):
            losses = module(batch)
            total = sum(loss.sum for loss in losses.values())
        activations, forward = live.now, live.most
        total.backward()
        del losses, total
        passes = live.most
        gradients = sum(p.grad.untyped_storage().nbytes() for p in module.parameters() if p.grad is not None)
        optimizer = updates.optimizer(dict(module.named_parameters()), module, config, mode.muon)
        with FlopCounterMode(display=False) as counter:
            optimizer.step(1.0)
        live.most = live.now
        optimizer.step(1.0)  # now that all of its state is there
        kept = sum(t.untyped_storage().nbytes() for t in optimizer.tensors().values())
    module.zero_grad(set_to_none=True)
    kept_freed = heap_of > 0 and not recomputed
    heap = _heap(module, batch, mode, optimizer, heap_of, micro_batches, averaged, processes) if kept_freed else 0
    return Counts(
        parameters=sum(p.numel() for p in module.parameters()),
        weights=weights,
        gradients=gradients,
        optimizer=kept,
        activations=activations,
        loss=forward - activations,
        passes=passes,
        update=live.most - kept,
        update_operations=counter.get_total_flops(),
        heap=heap,
    )


def _heap(
    module: nn.Module,
    batch: Any,
    mode: Mode,
    optimizer: Optimizer,
    steps: int,
    micro_batches: int,
    averaged: bool,
    processes: int,
) -> int:
    """What the heap holds of such steps beyond the most that there is at once. Two micro-batches stand for more."""
    own = min(2, -(-micro_batches // processes))
    parameters = list(module.parameters())
    learnt = [p for p in parameters if p.requires_grad]
    with _Live() as live:
        for held in (*parameters, *optimizer.tensors().values(), *(learnt if averaged else ())):
            live.make(held.untyped_storage().nbytes())
        for _ in range(steps):
            module.zero_grad(set_to_none=True)
            for _ in range(own):
                with mode.context(torch.device("cpu")):
                    total = sum(loss.sum for loss in module(batch).values())
                total.backward()
                del total
            if processes > 1:
                _exchange(learnt, processes)
            trained = [p for p in learnt if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(trained, 1.0, sum_of_squares(trained).sqrt().float())
            optimizer.step(1.0)
        taken = heap_bytes(live.events)
        most = live.most
    module.zero_grad(set_to_none=True)
    return 0 if taken is None else max(0, taken - most)


def _exchange(parameters: list[nn.Parameter], processes: int) -> None:
    """The gradients of this process become those of all (`engine.shares`), as far as memory goes."""
    own = {"": [p.grad for p in parameters]}
    for parameter in parameters:
        parameter.grad = None
    added = add_up(ImaginedWorld(processes), [own], [[presence(own)]] * processes, parameters)
    for parameter, gradient in zip(parameters, added[""], strict=True):
        parameter.grad = gradient


class _Live(TorchDispatchMode):
    """Bytes of the storages that operations have made and that are still held: `now`, and the `most` so far. What was
    there before is theirs who made it. `events` says what was made and freed, as `engine.heap` reads it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()
        self.events: list[int] = []
        self._made = 0

    def make(self, size: int) -> int:
        """Something of so many bytes is there from now on. Returns its number."""
        self._made += 1
        self.events += (self._made, size)
        self.now += size
        self.most = max(self.most, self.now)
        return self._made

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._meet((args, kwargs), new=False)
        made = function(*args, **kwargs) if kwargs else function(*args)
        self._meet(made, new=True)
        return made

    def _meet(self, tensors: Any, new: bool) -> None:
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, Tensor) or (storage := tensor.untyped_storage())._cdata in self._known:
                continue
            self._known.add(storage._cdata)
            size = storage.nbytes() if new else 0
            weakref.finalize(storage, self._let_go, storage._cdata, size, self.make(size) if new else None)

    def _let_go(self, key: int, size: int, number: int | None) -> None:
        self._known.discard(key)
        self.now -= size
        if number is not None:
            self.events += (number, -1)
