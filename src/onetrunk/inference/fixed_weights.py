"""Prepares a model that only answers from now on: its weights no longer change, so they are laid out once for the
products of this machine, in float32 or in bfloat16."""

from __future__ import annotations

import torch

from onetrunk.engine.mode import Choice, has_fast_bf16, prefers_bf16
from onetrunk.model import FoundationModel
from onetrunk.nn.fixed import fix

_MOST_BYTES = 2 << 30  # of the trunk: a second layout of more than that in float32 is not worth its memory


def fix_weights(model: FoundationModel, precision: Choice) -> str:
    """From now on the model answers in this precision (`auto`: bf16 where that is fast and the model wide); only where
    a gradient is asked for it computes as before. In bf16 products have three digits, all else is as it was; the
    read-outs of classes and numbers stay in float32. Returns what was chosen, in words."""
    device = next(model.parameters()).device
    if precision == "auto":
        precision = "bf16" if prefers_bf16(model, device) else "fp32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if dtype == torch.float32 and sum(p.nbytes for p in model.trunk.parameters()) > _MOST_BYTES:
        return precision
    fix(model.trunk, dtype)
    for _, module in model.column_modules.items():
        module.fix(dtype)
    slow = precision == "bf16" and not has_fast_bf16(device)
    return f"{precision}, which this {device.type} is slow in" if slow else precision
