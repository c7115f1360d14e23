"""Shares of a step: its micro-batches are dealt into so many, the gradients of each are summed by themselves, and then
the shares are summed in their order. So a step has the same bits whoever computes which share: as many processes as
shares, fewer, or one. One share is a step as a process alone makes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onetrunk.engine.losses import Gradients
from onetrunk.engine.world import World

Presence = dict[str, list[bool]]  # which of them there are
_AT_ONCE = 1 << 22  # numbers that are sent together


def shares_of(rank: int, size: int, shares: int) -> range:
    """The shares of one of `size` processes. Rank 0 always has some."""
    first, end = (-(-number * shares // size) for number in (rank, rank + 1))
    return range(first, end)


def is_mine(world: World, shares: int, index: int) -> bool:
    """Is this micro-batch of a step one of this process's?"""
    return index % shares in shares_of(world.rank, world.size, shares)


def presence(gradients: Gradients) -> Presence:
    return {name: [gradient is not None for gradient in each] for name, each in gradients.items()}


@torch.no_grad()
def fold(total: Gradients | None, share: Gradients, parameters: Sequence[Tensor]) -> Gradients:
    """The sum of some shares and the one after them. What only some of them hold is zero in the others."""
    if total is None:
        return {name: [None if g is None else g.contiguous() for g in each] for name, each in share.items()}
    none: list[Tensor | None] = [None] * len(parameters)
    return {
        name: [_sum(a, b) for a, b in zip(total.get(name, none), share.get(name, none), strict=True)]
        for name in dict.fromkeys([*total, *share])
    }


def _sum(before: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """What is missing is zero, and added all the same: the sign of a zero is a bit, too."""
    if before is None:
        return None if gradient is None else 0.0 + gradient.contiguous()
    return before + (0.0 if gradient is None else gradient)


@torch.no_grad()
def add_up(
    world: World, own: Sequence[Gradients], present: Sequence[Sequence[Presence]], parameters: Sequence[Tensor]
) -> Gradients:
    """The same sum, where each process has its `own` shares; `present` says what every rank's shares hold."""
    shares = [share for of_rank in present for share in of_rank]
    names = list(dict.fromkeys(name for share in shares for name in share))
    total: Gradients = {name: [None] * len(parameters) for name in names}
    wanted = [
        (name, i)
        for name in names
        for i in range(len(parameters))
        if any(share[name][i] for share in shares if name in share)
    ]
    for some in _sent_together(wanted, parameters):
        lengths = [parameters[i].numel() for _, i in some]
        first = parameters[some[0][1]].detach()
        flat = [_flat(share, some, parameters) for share in own]
        rows = flat[0][None] if len(flat) == 1 else torch.stack(flat) if flat else first.new_empty(0, sum(lengths))
        del flat  # gradients are many, and there are enough copies of them
        summed = world.add_in_order(rows, [len(of_rank) for of_rank in present])
        for (name, i), gradient in zip(some, summed.split(lengths), strict=True):
            total[name][i] = gradient.view(parameters[i].shape)
    return total


def _sent_together(wanted: Sequence[tuple[str, int]], parameters: Sequence[Tensor]) -> list[list[tuple[str, int]]]:
    """What is sent in one: of one type, not too much."""
    out: list[list[tuple[str, int]]] = []
    size = 0
    for name, i in sorted(wanted, key=lambda each: str(parameters[each[1]].dtype)):
        parameter = parameters[i]
        size += parameter.numel()
        if not out or size > _AT_ONCE or parameters[out[-1][-1][1]].dtype != parameter.dtype:
            out.append([])
            size = parameter.numel()
        out[-1].append((name, i))
    return out


def _flat(share: Gradients, some: Sequence[tuple[str, int]], parameters: Sequence[Tensor]) -> Tensor:
    each = [(share[name][i] if name in share else None, parameters[i]) for name, i in some]
    return torch.cat([(torch.zeros_like(p) if gradient is None else gradient).reshape(-1) for gradient, p in each])
