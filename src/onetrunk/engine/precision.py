"""Whether to compute in bf16: decided once, before step 0, and written into the checkpoint.

Eager PyTorch on a CPU repeats a run bit for bit in either precision; a resumed run therefore keeps the
decision of its checkpoint, even on another machine.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Choice = Literal["auto", "bf16", "fp32"]

_MIN_CPU_WIDTH = 256  # below it, casting costs more than the faster products save (measured with AMX)


@dataclass(frozen=True)
class Precision:
    """`autocast`: forward and loss in bf16. `muon`: Newton-Schulz in bf16. `reason`: for a person."""

    autocast: bool
    muon: bool
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """Of products."""
        return torch.bfloat16 if self.autocast else torch.float32

    def context(self, device: torch.device) -> AbstractContextManager[None]:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.autocast)


def decide(choice: Choice, device: torch.device, width: int) -> Precision:
    """`auto` takes bf16 where the device multiplies it fast and the model is wide enough to gain."""
    if choice == "fp32":
        return Precision(False, False, "fp32: asked for")
    fast = has_fast_bf16(device)
    if choice == "bf16":
        return Precision(True, fast, "bf16: asked for")
    if not fast:
        return Precision(False, False, f"fp32: this {device.type} has no fast bf16")
    if device.type == "cpu" and width < _MIN_CPU_WIDTH:
        return Precision(False, True, f"fp32: width {width} is too small to gain from bf16 on a CPU")
    return Precision(True, True, f"bf16: fast on this {device.type} at width {width}")


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
