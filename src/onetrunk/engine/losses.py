"""Several losses in one step: how much each counts, and how their gradients become one.

`Weights`: given by the user, or also balanced by uncertainty. `Merge`: summed, projected where they conflict, in turns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from onetrunk.core import rng

Gradients = dict[str, list[Tensor | None]]  # by what is kept apart (a loss, or all their sum), of each parameter
_SUM = ""
_DECAY = 0.9  # of the running level of a loss
_FLOOR = 0.1  # nats: a loss nearer to zero than this (or below, as a density's may be) does not weigh more


class Weights:
    """The weight of each loss, by its name ("predict/label") or by what precedes its slash; 1 otherwise.

    With `learnt`, it is divided by the loss's level, a running mean: exp(-s) L + s, the loss under a learnt log
    variance s (arXiv 1705.07115), is least at s = log L, where its gradient is that of L / L. Tasks in different units
    and at different stages then pull alike.
    """

    def __init__(self, given: Mapping[str, float], learnt: bool) -> None:
        self.given, self.learnt = given, learnt
        self.levels: dict[str, float] = {}  # part of a run's state

    def __getitem__(self, name: str) -> float:
        weight = self.given.get(name, self.given.get(name.partition("/")[0], 1.0))
        return weight / max(self.levels.get(name, 1.0), _FLOOR) if self.learnt else weight

    def observe(self, losses: Mapping[str, float]) -> None:
        """A step's mean losses move their levels; the first sets them."""
        if self.learnt:
            for name, loss in losses.items():
                before = self.levels.get(name, loss)
                self.levels[name] = _DECAY * before + (1 - _DECAY) * loss


class Merge(ABC):
    """How the gradients of a group's losses become one, in each parameter's `grad`. `alone`: no other group has
    parameters that these losses reach."""

    takes_all = True  # does every step take every loss?
    apart = False  # does each loss have a gradient of its own?

    def __init__(self, parameters: Sequence[Tensor], alone: bool = True) -> None:
        self.parameters, self.alone = parameters, alone

    def chosen(self, names: Sequence[str], step: int) -> list[str]:
        """Which of the losses this step takes."""
        return list(names)

    @abstractmethod
    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Losses of one micro-batch, at their final scale. They share one graph."""

    @abstractmethod
    def take(self) -> Gradients:
        """The gradients added so far, by what is kept apart, which then count no more."""

    @abstractmethod
    def put(self, gradients: Gradients) -> None:
        """These count as added."""

    def finish(self, key: int) -> None:  # noqa: B027 (most have nothing left to do)
        """Once all micro-batches are in. `key` is for what is drawn."""


class Sum(Merge):
    """The gradient of the sum."""

    def add(self, losses: Mapping[str, Tensor]) -> None:
        total = reduce(torch.add, losses.values())
        if total.requires_grad:
            if self.alone:
                total.backward()
            else:
                torch.autograd.backward(total, inputs=list(self.parameters))

    def take(self) -> Gradients:
        gradients = [parameter.grad for parameter in self.parameters]
        self.put({_SUM: [None] * len(gradients)})
        return {_SUM: gradients}

    def put(self, gradients: Gradients) -> None:
        for parameter, gradient in zip(self.parameters, gradients[_SUM], strict=True):
            parameter.grad = gradient


class Alternate(Sum):
    """The losses take turns, one a step."""

    takes_all = False

    def chosen(self, names: Sequence[str], step: int) -> list[str]:
        return [sorted(names)[step % len(names)]] if names else []


class PCGrad(Merge):
    """Each loss's gradient by itself, summed over micro-batches; then what conflicts is taken out (`pcgrad`)."""

    apart = True

    def __init__(self, parameters: Sequence[Tensor], alone: bool = True) -> None:
        super().__init__(parameters, alone)
        self.by_loss: Gradients = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        able = [name for name, loss in losses.items() if loss.requires_grad]
        for name in able:
            gradients = torch.autograd.grad(
                losses[name], self.parameters, retain_graph=name != able[-1], allow_unused=True
            )
            held = self.by_loss.setdefault(name, [None] * len(self.parameters))
            for i, gradient in enumerate(gradients):
                before = held[i]
                if gradient is not None:
                    held[i] = gradient if before is None else before + gradient

    def take(self) -> Gradients:
        taken, self.by_loss = self.by_loss, {}
        return taken

    def put(self, gradients: Gradients) -> None:
        self.by_loss = gradients

    def finish(self, key: int) -> None:
        merged = pcgrad(list(self.by_loss.values()), key)
        for parameter, gradient in zip(self.parameters, merged, strict=True):
            parameter.grad = gradient


MERGES: dict[str, type[Merge]] = {"sum": Sum, "pcgrad": PCGrad, "alternate": Alternate}


def pcgrad(
    gradients: Sequence[Sequence[Tensor | None]], key: int, total: Callable[[float], float] = float
) -> list[Tensor | None]:
    """Gradient surgery (arXiv 2001.06782): each task's gradient loses what goes against another's, taken in an order
    drawn from `key`; then they are summed. `gradients` [tasks][parameters], None where a task does not reach one. Where
    they are divided among processes, `total` sums over them.
    """
    out = [list(own) for own in gradients]
    for i, own in enumerate(out):
        for j in rng.permutation(rng.key(key, i), len(gradients)).tolist():
            if j == i:
                continue
            other = gradients[j]
            pairs = [(a, b) for a, b in zip(own, other, strict=True) if a is not None and b is not None]
            along = total(sum(float((a * b).sum()) for a, b in pairs))
            if along < 0:
                share = along / total(sum(float(b.square().sum()) for b in other if b is not None))
                for p, b in enumerate(other):
                    if b is not None:
                        own[p] = -share * b if own[p] is None else own[p] - share * b
    columns = zip(*out, strict=True)
    return [sum(present[1:], present[0]) if (present := [g for g in c if g is not None]) else None for c in columns]
