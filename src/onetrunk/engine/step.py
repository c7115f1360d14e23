"""One training step: loss groups, each with an optimizer of its own, how its gradients are merged, and how finished.

Most runs have one group, of all losses and parameters. An objective may add others (`core.objective.LossGroup`): their
updates come first, in order, each from a forward pass of its own, and the main group's last. What is done to a gradient
between the losses and the update is a `Merge` (`engine.losses`) and then a list of `Finish`; a new method of training
is one of these, never a branch here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from onetrunk.core import rng
from onetrunk.core.batch import Loss
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import LossGroup
from onetrunk.engine.losses import MERGES, Gradients, Merge, Weights
from onetrunk.engine.optim import OptimConfig, Optimizer, build_optimizer
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.shares import add_up, fold, presence, shares_of
from onetrunk.engine.world import AgreedError

T = TypeVar("T")

_MAIN = "main"
_PIECE = 1 << 18  # numbers of a gradient whose norm is taken at once

Finish = Callable[[Mapping[str, nn.Parameter], torch.Tensor], None]  # changes gradients in place, told their whole norm
Context = Callable[[], AbstractContextManager[None]]  # what a forward pass runs in


class MicroBatch(Protocol):
    """What a step asks of a batch (`core.batch.Batch` has it)."""

    counts: dict[str, float]  # loss name to count
    tokens: int
    row: np.ndarray  # [m] table row of each document

    def to(self, device: torch.device) -> Self: ...

    def pinned(self) -> Self: ...  # in memory from which a CUDA device copies by itself


class StepSettings(OptimConfig):
    """How losses and gradients become an update. 0 switches a field off."""

    clip: float = Field(1.0, ge=0)  # largest norm of the whole gradient
    loss_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict
    )  # by loss name or what precedes its "/"; else 1
    balance: Literal["given", "learnt"] = "given"  # learnt: also by uncertainty, so that no task drowns another
    activation_checkpointing: bool = False  # keep what enters each block, compute the rest again when it is needed
    merge: Literal["sum", "pcgrad", "alternate"] = "sum"  # of the losses' gradients; pcgrad takes out what conflicts


@dataclass(frozen=True)
class Updates:
    """How a module's parameters are updated.

    `blocks` are parts of one kind: their matrices are Muon's, and compiling one compiles all. `rates`: what learns at a
    share of the learning rate; of nested modules the innermost says it. `groups`: losses with updates of their own.
    `hidden`: other parts whose matrices are Muon's.
    """

    blocks: Sequence[nn.Module] = ()
    rates: Mapping[nn.Module, float] = field(default_factory=dict)
    groups: Sequence[LossGroup] = ()
    hidden: Sequence[nn.Module] = ()

    def optimizer(
        self, parameters: Mapping[str, nn.Parameter], module: nn.Module, config: OptimConfig, muon_bf16: bool
    ) -> Optimizer:
        """Of parameters by the names that they have in the module, or of what stands for them. Raises UsageError when
        there are none."""
        names = {p: name for name, p in module.named_parameters()}
        hidden = {names[p] for part in (*self.blocks, *self.hidden) for p in part.parameters() if p.ndim > 1}
        rates = {
            parameters[names[p]]: self.rates[submodule]
            for submodule in module.modules()
            if submodule in self.rates
            for p in submodule.parameters()
            if names[p] in parameters
        }
        return build_optimizer(
            parameters, config, muon_bf16, {p for name, p in parameters.items() if name in hidden}, rates
        )


class NotFiniteError(AgreedError):
    """A loss or a gradient is not finite, in these table rows. `updated`: another group was updated before."""

    def __init__(self, problem: str, rows: np.ndarray, updated: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.rows, self.updated = problem, rows, updated


@dataclass
class StepResult:
    """Mean losses by name, their weighted sum, and the norm of the main group's gradient before it was clipped; of how
    many tokens and documents, in all processes."""

    losses: dict[str, float]
    loss: float
    norm: float
    tokens: int
    documents: int
    figures: dict[str, float] = field(default_factory=dict)  # what else this kind of step tells, by name


@dataclass(eq=False)
class Step:
    """Makes the steps of one run. `module(batch)` gives named losses; with several groups, or losses that take turns,
    it is also told which are `wanted`. Every process of the run's world makes each step, of its own `shares`. Another
    kind of step is a dataclass on top of this one, which adds what it needs beside these fields."""

    module: nn.Module
    config: StepSettings
    updates: Updates
    runtime: Runtime
    seed: int
    weights: Weights
    muon_bf16: bool = False
    shares: int = 1

    def __post_init__(self) -> None:
        self.world = self.runtime.world
        module, config, updates, muon_bf16 = self.module, self.config, self.updates, self.muon_bf16
        recompute(updates.blocks, config.activation_checkpointing)
        names = {p: name for name, p in module.named_parameters() if p.requires_grad}
        self.groups: list[Group] = []
        for group in updates.groups:
            own = self._trained({names.pop(p): p for p in group.parameters if p in names})
            settings = OptimConfig.parse({**_optim(config), **group.optimizer}, f"the optimizer of {group.name}")
            optimizer = updates.optimizer(own, module, settings, muon_bf16)
            merge = MERGES[group.merge]
            self.groups.append(Group(group.name, group.losses, own, optimizer, merge, self._finish(), group.updates))
        rest = self._trained({name: p for p, name in names.items()})
        optimizer = updates.optimizer(rest, module, config, muon_bf16)
        self.groups.append(Group(_MAIN, None, rest, optimizer, MERGES[config.merge], self._finish()))

    def __call__(self, number: int, batches: Sequence[MicroBatch | None], scale: float, context: Context) -> StepResult:
        """Step `number`, of micro-batches (None: another process has it), at `scale` times the peak learning rates;
        forward passes run in `context`. Raises NotFiniteError, in every process, before the update that it is about."""
        own = {i: (batch.counts, batch.tokens, len(batch.row)) for i, batch in enumerate(batches) if batch is not None}
        facts = in_order(self.world.gather(own))
        counts: dict[str, float] = {}
        for of_batch, _, _ in facts:
            for name, count in of_batch.items():
                counts[name] = counts.get(name, 0.0) + count
        losses: dict[str, float] = {}
        norm = 0.0
        for group in self.groups:
            for update in range(group.updates):
                new, norm = self._update(group, update, number, batches, counts, scale, context)
                losses |= new
        weighed = sum(self.weights[name] * value for name, value in losses.items())
        self.weights.observe(losses)
        tokens, documents = sum(tokens for _, tokens, _ in facts), sum(documents for _, _, documents in facts)
        return StepResult(losses, weighed, norm, tokens, documents)

    def _trained(self, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """What is updated, and has the gradients, by name."""
        return parameters

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state of every group's optimizer, by parameter."""
        state = {name: tensor for group in self.groups for name, tensor in group.optimizer.tensors().items()}
        return dict(sorted(state.items()))

    def load_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for group in self.groups:
            group.optimizer.load_tensors(tensors)

    def state(self) -> dict[str, Any]:
        """What else a run needs to go on exactly, as JSON."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""

    def facts(self) -> dict[str, Any]:
        """What this kind of step tells of a run, as JSON, for the model's provenance."""
        return {}

    def _update(
        self,
        group: Group,
        update: int,
        number: int,
        batches: Sequence[MicroBatch | None],
        counts: Mapping[str, float],
        scale: float,
        context: Context,
    ) -> tuple[dict[str, float], float]:
        """One update of one group: its mean losses, and the norm of its gradient."""
        updated = group is not self.groups[0] or update > 0
        losses: dict[str, float] = {}
        for sums in self._gradients(group, update, number, batches, counts, context, updated):
            for name, value in sums.items():
                losses[name] = losses.get(name, 0.0) + value / counts[name]
        norm = self._norm(group.parameters, batches, updated)
        for finish in group.finish:
            finish(group.parameters, norm)
        group.optimizer.step(scale)
        return losses, float(norm)

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
        """Leaves the group's merged gradient in its parameters. Returns the losses' sums of every micro-batch."""
        self.module.zero_grad(set_to_none=True)
        merge = group.merge(list(group.parameters.values()), alone=len(self.groups) == 1)
        names = merge.chosen(self._names(group, counts), number)
        wanted = None if len(self.groups) == 1 and merge.takes_all else names

        def backward(index: int, batch: MicroBatch) -> dict[str, float]:
            self.runtime.seed(self._key(group, update, number, index))
            return self._accumulate(batch, counts, wanted, merge, context, updated)

        sums = self._all_shares(merge, batches, backward)
        merge.finish(rng.key(self.seed, number, "merge"))
        return sums

    def _key(self, group: Group, update: int, number: int, index: int) -> int:
        """What dropout of a micro-batch draws from."""
        key = (self.seed, number, index) if group.losses is None else (self.seed, number, index, group.name, update)
        return rng.torch_seed(*key)

    def _all_shares(
        self,
        merge: Merge,
        batches: Sequence[MicroBatch | None],
        backward: Callable[[int, MicroBatch], dict[str, float]],
    ) -> list[dict[str, float]]:
        """Goes through the micro-batches, here and in other processes, and leaves their gradients in `merge`. Returns
        the sums of their losses, in their order. Raises NotFiniteError for the first that is not finite."""
        sums: dict[int, dict[str, float]] = {}
        own: list[Gradients] = []
        problem: tuple[str, np.ndarray, bool] | None = None
        try:
            for share in shares_of(self.world.rank, self.world.size, self.shares):
                for index, batch in list(enumerate(batches))[share :: self.shares]:
                    if batch is not None:
                        sums[index] = backward(index, batch)
                if self.shares > 1 or not self.world.alone:
                    own = self._with(own, merge.take(), merge.parameters)
        except NotFiniteError as error:
            if self.world.alone:
                raise
            problem = error.problem, error.rows, error.updated
        if self.world.alone:
            for total in own:
                merge.put(total)
            return in_order([sums])
        everyone = self.world.gather((sums, [presence(share) for share in own], problem))
        for _, _, first in everyone:
            if first is not None:
                raise NotFiniteError(*first)
        merge.put(add_up(self.world, own, [present for _, present, _ in everyone], merge.parameters))
        return in_order([of_rank for of_rank, _, _ in everyone])

    def _with(self, own: list[Gradients], share: Gradients, parameters: Sequence[torch.Tensor]) -> list[Gradients]:
        """A process alone keeps the sum of its shares only; others may have shares that come between."""
        return [fold(own[0] if own else None, share, parameters)] if self.world.alone else [*own, share]

    def _names(self, group: Group, counts: Mapping[str, float]) -> list[str]:
        """The group's losses that this step has: its own, or all that no other group has."""
        there = [name for name, count in counts.items() if count > 0]
        if group.losses is not None:
            return [name for name in there if name in group.losses]
        others = {name for other in self.groups for name in other.losses or ()}
        return [name for name in there if name not in others]

    def _accumulate(
        self,
        batch: MicroBatch,
        counts: Mapping[str, float],
        wanted: Collection[str] | None,
        merge: Merge,
        context: Context,
        updated: bool,
    ) -> dict[str, float]:
        """Forward and backward of one micro-batch. Returns the losses' sums."""
        losses, sums = self._forward(batch, counts, wanted, context, updated)
        if losses:
            merge.add(losses)
        return sums

    def _forward(
        self,
        batch: MicroBatch,
        counts: Mapping[str, float],
        wanted: Collection[str] | None,
        context: Context,
        updated: bool,
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The losses of one micro-batch at their final scale, and their sums."""
        batch = batch.to(self.runtime.device)
        with context():
            losses = self.module(batch) if wanted is None else self.module(batch, wanted)
        for name in [name for name in losses if not counts.get(name)]:
            if losses.pop(name).count > 0:
                raise ValueError(f"The loss {name!r} has a count that its batch's `counts` does not know.")
        if not losses:
            return {}, {}
        values = torch.stack([loss.sum.detach().float() for loss in losses.values()]).tolist()
        sums = dict(zip(losses, values, strict=True))
        for name, value in sums.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"the loss {name!r} is {value}", _bad_rows(losses[name], batch.row), updated)
        return {name: self.weights[name] / counts[name] * loss.sum for name, loss in losses.items()}, sums

    def _norm(
        self, parameters: Mapping[str, nn.Parameter], batches: Sequence[MicroBatch | None], updated: bool
    ) -> torch.Tensor:
        """Of the whole gradient, which is the same in every process."""
        norm = sum_of_squares(parameters.values()).sqrt().float()
        if not math.isfinite(norm):
            own = [batch.row for batch in batches if batch is not None]
            rows = np.unique(np.concatenate([row for of_rank in self.world.gather(own) for row in of_rank]))
            names = [n for n, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
            where = f" of {names[0]!r}" if names else ""
            raise NotFiniteError(f"the loss is finite but the gradient{where} is not", rows, updated)
        return norm

    def _finish(self) -> list[Finish]:
        return [ClipNorm(self.config.clip)] if self.config.clip else []


def sum_of_squares(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """Of all gradients, in float64: so exact that, rounded, it is the same however they are divided. PyTorch copies
    what it takes the norm of: of pieces that takes no memory to speak of."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    pieces = [piece for gradient in gradients for piece in gradient.flatten().split(_PIECE)]
    return torch.stack(torch._foreach_norm(pieces, 2, dtype=torch.float64)).square().sum()


@dataclass
class Group:
    """A loss group with its optimizer. `losses` None: all that no other group has."""

    name: str
    losses: tuple[str, ...] | None
    parameters: dict[str, nn.Parameter]
    optimizer: Optimizer
    merge: type[Merge]
    finish: list[Finish]
    updates: int = 1


@dataclass(frozen=True)
class ClipNorm:
    """Scales the whole gradient down to a norm of at most `limit`."""

    limit: float

    def __call__(self, parameters: Mapping[str, nn.Parameter], norm: torch.Tensor) -> None:
        trained = [p for p in parameters.values() if p.grad is not None]
        torch.nn.utils.clip_grads_with_norm_(trained, self.limit, norm)


def recompute(blocks: Sequence[nn.Module], on: bool) -> None:
    """Says whether blocks keep in training only what enters them, and compute the rest again for the backward pass
    (arXiv 1604.06174). Losses and gradients stay the same to the bit. Raises UsageError where there are no blocks."""
    if on and not blocks:
        raise UsageError(
            "train.activation_checkpointing is for trunks of blocks, and a recurrent trunk has none. Leave it out; "
            "smaller tokens_per_batch takes less memory, too."
        )
    for block in blocks:
        block.recomputed = on  # type: ignore[assignment]


def in_order(of_ranks: Sequence[Mapping[int, T]]) -> list[T]:
    """What every rank has of its micro-batches, in the order of micro-batches."""
    return [value for _, value in sorted({i: value for of_rank in of_ranks for i, value in of_rank.items()}.items())]


def _bad_rows(loss: Loss, row: np.ndarray) -> np.ndarray:
    """Table rows whose reads are not finite; all rows of the micro-batch when the loss cannot tell."""
    if loss.each is None or loss.doc is None:
        return np.unique(row)
    documents = loss.doc[~loss.each.isfinite()].cpu().numpy()
    return np.unique(row[documents] if len(documents) else row)


def _optim(config: OptimConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in OptimConfig.model_fields}
