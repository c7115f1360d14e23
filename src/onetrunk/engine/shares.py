"""Shares of a step: its micro-batches are dealt into so many, the gradients of each are summed by themselves, and then
the shares are summed in their order. So a step has the same bits whoever computes which share: as many processes as
shares, fewer, or one. One share is a step as a process alone makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

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
    """The same sum, where each process has its `own` shares; `present` says what every rank's shares hold. Own
    gradients are used up: where there is one, the sum takes its place, so that there is no second copy of them all."""
    shares = [share for of_rank in present for share in of_rank]
    names = list(dict.fromkeys(name for share in shares for name in share))
    wanted = [
        (name, i)
        for name in names
        for i in range(len(parameters))
        if any(share[name][i] for share in shares if name in share)
    ]
    total: Gradients = {name: [None] * len(parameters) for name in names}
    owners = Counter(_memory(g) for share in own for each in share.values() for g in each if g is not None)
    for name, i in wanted:
        there = (share[name][i] for share in own if name in share)
        free = (g for g in there if g is not None and g.is_contiguous() and owners[_memory(g)] == 1)
        total[name][i] = next(free, None)
        if total[name][i] is None:
            total[name][i] = torch.empty_like(parameters[i], memory_format=torch.contiguous_format)
    for some in _sent_together(wanted, parameters):
        flat = [_flat(share, some, parameters) for share in own]
        none = parameters[some[0].number].new_empty(0, sum(part.length for part in some))
        rows = flat[0][None] if len(flat) == 1 else torch.stack(flat) if flat else none
        del flat  # gradients are many, and there are enough copies of them
        summed = world.add_in_order(rows, [len(of_rank) for of_rank in present])
        del rows
        for part, piece in zip(some, summed.split([part.length for part in some]), strict=True):
            part.of(total, parameters).copy_(piece)
    return total


class _Part(NamedTuple):
    """Numbers of a gradient that are sent together with others: of which parameter, by its number."""

    name: str
    number: int
    start: int
    length: int

    def of(self, share: Gradients, parameters: Sequence[Tensor]) -> Tensor:
        """A view, where the gradient is contiguous; zeros where there is none."""
        gradient = share[self.name][self.number] if self.name in share else None
        if gradient is None:
            return parameters[self.number].new_zeros(self.length)
        return gradient.reshape(-1)[self.start : self.start + self.length]


def _memory(gradient: Tensor) -> int:
    """What tells memory apart: autograd may give several parameters one and the same gradient."""
    return gradient.untyped_storage()._cdata


def _sent_together(wanted: Sequence[tuple[str, int]], parameters: Sequence[Tensor]) -> list[list[_Part]]:
    """What is sent in one: of one type, and always as much, so that one is put where the one before has been."""
    out: list[list[_Part]] = []
    of, room = None, 0
    for name, i in sorted(wanted, key=lambda each: str(parameters[each[1]].dtype)):
        start, size = 0, parameters[i].numel()
        while start < size:
            if not room or parameters[i].dtype != of:
                out.append([])
                of, room = parameters[i].dtype, _AT_ONCE
            part = _Part(name, i, start, min(room, size - start))
            out[-1].append(part)
            start, room = start + part.length, room - part.length
    return out


def _flat(share: Gradients, some: Sequence[_Part], parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.of(share, parameters) for part in some])
