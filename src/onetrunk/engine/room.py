"""What a step of a run takes in memory, and the largest micro-batch that fits: said before a run that would take more
than it may (`--max-memory`), and when memory has run out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from onetrunk.core.errors import ResourceError
from onetrunk.engine.counting import count
from onetrunk.engine.mode import Mode
from onetrunk.engine.planning import Spread, StepCost, cures, memory, tokens_within
from onetrunk.engine.progress import resident_bytes
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.step import Updates

if TYPE_CHECKING:
    from onetrunk.engine.trainer import TrainConfig


def check(module: nn.Module, batches: Sequence[Any], config: TrainConfig, updates: Updates, limit: float) -> None:
    """Raises ResourceError where a run whose first step has these micro-batches would take more than `limit` bytes, in
    this process and at the worst moment; it says what would take less."""
    if not batches:  # what a private step draws can be nothing
        return
    runtime = Runtime.of(module)
    cost = step_cost(module, batches, config, updates)
    weights = sum(p.untyped_storage().nbytes() for p in module.parameters())
    process = resident_bytes() - weights if runtime.device.type == "cpu" else 0.0
    spread = Spread(runtime.world.size, config.sharded and not runtime.world.alone, first=True)
    if (needed := memory(cost, process, spread)["peak"]) <= limit:
        return
    less = config.model_copy(update={"activation_checkpointing": True})
    again = None
    if updates.blocks and not config.activation_checkpointing:
        again = step_cost(module, batches, less, updates)
    ways = cures(cost, again, process, limit, spread)
    raise ResourceError(
        f"Training would take about {needed / 1e9:.3g} GB, and --max-memory allows {limit / 1e9:.3g}. {' '.join(ways)}"
    )


def out_of_memory(
    module: nn.Module, batches: Sequence[Any], config: TrainConfig, updates: Updates, held: float, process: float
) -> str:
    """What to do where these micro-batches took more than the `held` bytes that there were at most: for a person. At
    most half of the largest is advised, and at least one token."""
    largest = max((batch.tokens for batch in batches), default=0)
    try:
        fit = min(largest // 2, tokens_within(step_cost(module, batches, config, updates), process, held, Spread()))
    except (MemoryError, RuntimeError, ValueError):  # no room even to count, numbers are needed, or no batch
        fit = largest // 2
    fit = max(1, fit)
    return (
        f"Use smaller micro-batches: the largest of this step has {largest:,} tokens; try {fit:,} (--set "
        f"tokens_per_batch={fit}), or keep fewer activations (--set train.activation_checkpointing=true)."
    )


def step_cost(module: nn.Module, batches: Sequence[Any], config: TrainConfig, updates: Updates) -> StepCost:
    """What a step takes: counted on the shapes of the module, whose numbers are not looked at."""
    shape, of_shape = _shape(module, updates)
    largest = max(batches, key=lambda batch: batch.tokens)
    mode = Mode.before(config.precision, torch.device("cpu"))
    counts = count(
        shape, largest, config, mode, of_shape,
        recomputed=config.activation_checkpointing, micro_batches=len(batches), averaged=config.ema > 0,
    )  # fmt: skip
    inside = sum(p.untyped_storage().nbytes() for block in of_shape.blocks for p in block.parameters())
    return StepCost(
        counts=counts,
        operations=0.0,
        tokens=sum(batch.tokens for batch in batches),
        largest=largest.tokens,
        micro_batches=len(batches),
        averaged=config.ema > 0,
        block=inside / max(1, len(of_shape.blocks)),
        outside=counts.weights - inside,
    )


def _shape(module: nn.Module, updates: Updates) -> tuple[nn.Module, Updates]:
    """The same, of parameters that have no numbers."""
    memo: dict[int, Any] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for parameter in module.parameters():
            empty = torch.empty(parameter.shape, dtype=parameter.dtype)
            memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("cpu", copy=True)
    shape, of_shape = copy.deepcopy((module, updates), memo)
    return shape, of_shape
