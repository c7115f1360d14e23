"""Weights, gradients and optimizer state divided among processes (FSDP2, `torch.distributed.fsdp.fully_shard`): each
block is put together when it computes, and taken apart again (ZeRO, arXiv 1910.02054; PyTorch FSDP, 2304.11277).

The optimizer, clipping and averages work on each process's own parts, as plain tensors. What is not elementwise asks
for the whole: Muon's matrices, norms, PCGrad's products. Every process makes as many passes as the others, since each
puts blocks together: one that has no micro-batch left makes one that does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core import rng
from onetrunk.engine.losses import Gradients, pcgrad
from onetrunk.engine.optim import Muon
from onetrunk.engine.step import Context, Group, MicroBatch, NotFiniteError, Step, in_order, sum_of_squares
from onetrunk.engine.world import World


class SumInOrder:
    """FSDP2's reduce-scatter, adding in the order of ranks, as one process adds shares (`engine.shares`). A ring begins
    each part elsewhere, and gives other bits for another number of ranks. As many bytes are sent."""

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: torch.distributed.ProcessGroup,
        op: object,
        async_op: bool = False,
    ) -> None:
        parts = torch.empty_like(input_tensor)
        torch.distributed.all_to_all_single(parts, input_tensor, group=group)
        first, *others = parts.view(-1, *output_tensor.shape)
        output_tensor.copy_(first)
        for part in others:
            output_tensor += part


class Shards:
    """A module divided among processes, in place: its own parts by name (`own`), and how parts and wholes go together
    (`engine.optim.Sharding`)."""

    def __init__(self, module: nn.Module, parts: Sequence[nn.Module], world: World, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.mesh = init_device_mesh(device.type, (world.size,))
        for each in (*parts, module):
            sharded: Any = fully_shard(each, mesh=self.mesh)
            sharded.set_gradient_divide_factor(1.0)  # losses are at their final scale
            sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other
            sharded.set_custom_reduce_scatter(SumInOrder())
        self.divided: dict[str, Any] = dict(module.named_parameters())
        self.own = {name: nn.Parameter(p.to_local().detach(), p.requires_grad) for name, p in self.divided.items()}
        self._of: dict[Tensor, Any] = {own: self.divided[name] for name, own in self.own.items()}

    def shape(self, parameter: Tensor) -> torch.Size:
        """Of the whole."""
        return self._of[parameter].shape

    def whole(self, parameter: Tensor, part: Tensor) -> Tensor:
        """Everyone's parts of something whose rows are divided as the parameter's are. All processes ask at once."""
        from torch.distributed.tensor import DTensor

        like = self._of[parameter]
        shape = torch.Size([like.shape[0], *part.shape[1:]])
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(part, self.mesh, like.placements, shape=shape, stride=stride).full_tensor()

    def part(self, parameter: Tensor, whole: Tensor) -> Tensor:
        """This process's."""
        chunk = -(-whole.shape[0] // self.mesh.size())
        rank = self.mesh.get_local_rank()
        return whole[rank * chunk : (rank + 1) * chunk]

    def take_gradients(self, names: Sequence[str]) -> list[Tensor | None]:
        """Of this process's parts; none are left."""
        gradients = [None if (g := self.divided[name].grad) is None else g.to_local() for name in names]
        for parameter in self.divided.values():
            parameter.grad = None
        return gradients


@dataclass(eq=False)
class ShardedStep(Step):
    """As `Step`, of a module that this divides."""

    def __post_init__(self) -> None:
        names = {p: name for name, p in self.module.named_parameters()}
        self.shards = Shards(self.module, self.updates.blocks, self.runtime.world, self.runtime.device)
        groups = [
            replace(group, parameters=[self.shards.divided[names[p]] for p in group.parameters if p in names])
            for group in self.updates.groups
        ]
        self.updates = replace(self.updates, groups=groups)
        super().__post_init__()
        for group in self.groups:
            for optimizer in group.optimizer.optimizers:
                if isinstance(optimizer, Muon):
                    optimizer.sharding = self.shards
        self.average: dict[str, Tensor] = {}  # of this process's parts

    # -- state, whole ------------------------------------------------------------------------------------------------
    def whole_weights(self) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """All weights with their averages, where there are some, one after the other: nobody has to hold all of them.
        All processes ask at once, and to the end."""
        for name, own in self.shards.own.items():
            part = self.average.get(name)
            average = None if part is None else self.shards.whole(own, part)
            yield name, self.shards.whole(own, own.detach()), average

    def tensors(self) -> dict[str, Tensor]:
        """The state of every group's optimizer: whole in rank 0, which saves it; nothing in others. All processes ask
        at once."""
        state: dict[str, Tensor] = {}
        for name, part in super().tensors().items():
            whole = self._same_shape(name, part, self.shards.whole)
            if self.world.rank == 0:
                state[name] = whole
        return state

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        super().load_tensors({name: self._same_shape(name, each, self.shards.part) for name, each in tensors.items()})

    def load_average(self, average: Mapping[str, Tensor]) -> None:
        own = self.shards.own
        # Copies: a view of its part would keep the whole.
        parts = {name: self.shards.part(own[name], each).clone() for name, each in average.items()}
        self.average = {name: part.to(own[name].device) for name, part in parts.items()}

    def _same_shape(self, name: str, tensor: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """What has its parameter's shape is divided as that is; a count of steps is everyone's."""
        return change(self.shards.own[name.rpartition(".")[0]], tensor).clone() if tensor.ndim else tensor.clone()

    # -- a step ------------------------------------------------------------------------------------------------------
    def _trained(self, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        return {name: self.shards.own[name] for name in parameters}

    def _gradients(
        self,
        group: Group,
        update: int,
        number: int,
        batches: Sequence[MicroBatch | None],
        counts: Mapping[str, float],
        context: Context,
        updated: bool,
    ) -> list[dict[str, float]]:
        merge = group.merge(list(group.parameters.values()))
        names = merge.chosen(self._names(group, counts), number)
        every = len(self.groups) == 1 and merge.takes_all and not merge.apart
        sums: dict[int, dict[str, float]] = {}
        gradients: Gradients = {}
        for parameter in group.parameters.values():
            parameter.grad = None
        for wanted in [[name] for name in names] if merge.apart else [names]:
            for first in range(0, len(batches), self.world.size):
                index = first + self.world.rank
                own = batches[index] if index < len(batches) else None
                batch = own if own is not None else next(batch for batch in batches if batch is not None)
                self.runtime.seed(self._key(group, update, number, index))
                passed = self._agreed(batch, counts, None if every else wanted, context, updated)
                losses, values = passed
                if losses:
                    (sum(losses.values()) * (own is not None)).backward()  # type: ignore[union-attr]
                if own is not None:
                    sums.setdefault(index, {}).update(values)
            gradients["/".join(wanted)] = self.shards.take_gradients(list(group.parameters))
        merged = next(iter(gradients.values())) if len(gradients) == 1 else self._merged(gradients, number)
        for parameter, gradient in zip(group.parameters.values(), merged, strict=True):
            parameter.grad = gradient
        return in_order(self.world.gather(sums))

    def _agreed(
        self,
        batch: MicroBatch,
        counts: Mapping[str, float],
        wanted: Sequence[str] | None,
        context: Context,
        updated: bool,
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """A forward pass, after which all go on or none does."""
        problem: tuple[str, np.ndarray, bool] | None = None
        passed: tuple[dict[str, Tensor], dict[str, float]] = {}, {}
        try:
            passed = self._forward(batch, counts, wanted, context, updated)
        except NotFiniteError as error:
            problem = error.problem, error.rows, error.updated
        for first in self.world.gather(problem):
            if first is not None:
                raise NotFiniteError(*first)
        return passed

    def _merged(self, gradients: Gradients, number: int) -> list[Tensor | None]:
        return pcgrad(list(gradients.values()), rng.key(self.seed, number, "merge"), self._total)

    def _total(self, value: float) -> float:
        return math.fsum(self.world.gather(value))

    def _norm(
        self, parameters: Mapping[str, nn.Parameter], batches: Sequence[MicroBatch | None], updated: bool
    ) -> Tensor:
        squares = self._total(float(sum_of_squares(parameters.values())))
        norm = torch.tensor(math.sqrt(squares), device=self.runtime.device)
        if not math.isfinite(norm):
            bad = [n for n, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
            rows = [batch.row for batch in batches if batch is not None]
            everyone = self.world.gather((bad, rows))
            where = next((f" of {names[0]!r}" for names, _ in everyone if names), "")
            every_row = np.unique(np.concatenate([row for _, rows in everyone for row in rows]))
            raise NotFiniteError(f"the loss is finite but the gradient{where} is not", every_row, updated)
        return norm
