"""Decides how steps are computed: in bf16 or fp32, compiled or not. It depends on the time that the run's own first
micro-batch takes (`Runtime.pass_timer`), said in one line, and written into a checkpoint before the first update.

Eager PyTorch on a CPU repeats a run bit for bit in either precision, compiled code where algorithms are deterministic;
a resumed run therefore keeps the decisions of its checkpoint, even on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import nn

Choice = Literal["auto", "bf16", "fp32"]
Compile = bool | Literal["auto"]
Blocks = Sequence[nn.Module]
Pass = Callable[[bool], float]  # seconds of a forward and a backward pass, in bf16 or not

_WIDE = 512  # from here on products take the time, and bf16 wins wherever it is fast
_MIN_STEPS = 60  # of a run: the probe takes as long as about six of them
_ROUNDS = 4  # of one pass in each precision; the first warms up
# How many times as fast a pass in bf16 must be, and in every round faster. A pass leaves out the optimizer and the
# making of batches, which take as long in either precision: 1.15 times a pass is about 1.1 times a step, and less is
# not worth having numbers of three digits. The fastest of three passes repeats within some hundredths on a quiet
# machine, so that runs of one seed decide alike unless they are that close; where other programs disturb the clock,
# rounds contradict each other, and fp32, the exact one, is kept.
_GAIN = 1.15
_COMPILING = 600.0  # seconds of an eager run from which compiling, half a minute or more, is tried
_COMPILED_GAIN = 1.05


@dataclass(frozen=True)
class Mode:
    """`autocast`: forward and loss in bf16. `muon`: Newton-Schulz in bf16. `compiled`: blocks are.
    `reason`: for a person; empty before it is decided. `timed`: by the clock, which may say otherwise next time."""

    autocast: bool
    muon: bool
    compiled: bool
    reason: str
    timed: bool = False

    @classmethod
    def before(cls, choice: Choice, device: torch.device) -> Self:
        """What is known before anything was timed: how the optimizer computes."""
        return cls(False, choice != "fp32" and has_fast_bf16(device), False, "")

    @property
    def dtype(self) -> torch.dtype:
        """Of products."""
        return torch.bfloat16 if self.autocast else torch.float32

    def context(self, device: torch.device) -> AbstractContextManager[None]:
        """Inside, products are computed in `dtype`."""
        return torch.autocast(device.type, torch.bfloat16) if self.autocast else nullcontext()


def decide(
    before: Mode,
    precision: Choice,
    compile: Compile,
    module: nn.Module,
    blocks: Blocks,
    timed: Pass,
    steps: int,
    passes: int,
) -> Mode:
    """What the user chose, or what is faster for a run of so many steps of so many passes each. Leaves the
    blocks compiled where that was decided."""
    dtype, why, seconds = _precision(precision, module, timed, steps)
    mode = replace(before, autocast=dtype == "bf16", reason=f"{dtype}: {why}", timed=seconds is not None)
    if compile is False or not blocks:
        return mode
    if compile is True:
        set_compiled(blocks, True)
        return replace(mode, compiled=True, reason=f"{mode.reason}; compiled: asked for")
    if steps < _MIN_STEPS:
        return mode
    eager, mode = seconds or timed(mode.autocast), replace(mode, timed=True)
    if eager * steps * passes < _COMPILING:
        return mode
    set_compiled(blocks, True)
    try:
        timed(mode.autocast)  # compiles
        gain = eager / min(timed(mode.autocast) for _ in range(2))
        result = f"{gain:.2f} times as fast as eager"
    except RuntimeError as error:  # no compiler, or one that failed
        gain, result = 0.0, f"compiling failed ({type(error).__name__})"
    if gain < _COMPILED_GAIN:
        set_compiled(blocks, False)
        return replace(mode, reason=f"{mode.reason}; not compiled: {result}")
    return replace(mode, compiled=True, reason=f"{mode.reason}; compiled: {result}")


def _precision(
    choice: Choice, module: nn.Module, timed: Pass, steps: int
) -> tuple[Literal["bf16", "fp32"], str, float | None]:
    """Which one, why, and the seconds of a pass in it where they were measured."""
    device = next(module.parameters()).device
    if choice != "auto":
        return choice, "asked for", None
    if not has_fast_bf16(device):
        return "fp32", f"this {device.type} has no fast bf16", None
    if prefers_bf16(module, device):
        return "bf16", f"fast on this {device.type} at width {width_of(module)}", None
    if steps < _MIN_STEPS:
        return "fp32", f"{steps} steps are too few to gain from bf16", None
    rounds = [(timed(True), timed(False)) for _ in range(_ROUNDS)][1:]
    bf16, fp32 = (min(times) for times in zip(*rounds, strict=True))
    times = f"a pass takes {1000 * bf16:.0f} ms in bf16, {1000 * fp32:.0f} ms in fp32"
    if fp32 > _GAIN * bf16 and all(one < other for one, other in rounds):
        return "bf16", times, bf16
    return "fp32", times, fp32


def prefers_bf16(module: nn.Module, device: torch.device) -> bool:
    """Is bf16 fast here, and are products what takes the time, so that nothing need be measured?"""
    return has_fast_bf16(device) and (device.type != "cpu" or width_of(module) >= _WIDE)


def has_fast_bf16(device: torch.device) -> bool:
    """AMX or AVX512-BF16 on a CPU; compute capability 8.0 (Ampere) or higher on CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False


def width_of(module: nn.Module) -> int:
    """The model's width: the widest smaller side of its matrices; 0 when there are none."""
    return max((min(p.shape) for p in module.parameters() if p.ndim == 2), default=0)


# -- compiling -------------------------------------------------------------------------------------------------------
def set_compiled(blocks: Blocks, on: bool) -> None:
    """Compiles modules of one kind when they are next called, one for all of them, or lets them be eager again.
    Compiled code repeats its bits only with deterministic algorithms."""
    torch.use_deterministic_algorithms(on, warn_only=True)
    # With NaN, all that is made: a tenth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    for block in blocks:
        if on:
            block.compile()
        else:
            block._compiled_call_impl = None  # what `compile` sets; there is no public way back
