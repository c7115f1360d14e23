"""A network that answers and learns nothing more: its linear maps read weights that were laid out once, in float32 or
in bfloat16. Everything between them stays in float32, as under autocast."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from onetrunk.nn.attention import Attention
from onetrunk.nn.kernels.cpu.linear import FixedLinear


class _AnsweringLinear(nn.Linear):
    """The same map with the same parameters; where no gradient is asked for, by a weight that was fixed."""

    fixed: FixedLinear

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        return self.fixed(x)


def fix(module: nn.Module, dtype: torch.dtype) -> None:
    """From now on every linear map within computes in `dtype` where no gradient is asked for. Weights that change later
    are not seen. The parameters and their names stay as they are."""
    attentions = [each for each in module.modules() if isinstance(each, Attention)]
    joined = {each for a in attentions if a.fix(dtype) for each in (a.q_proj, a.k_proj, a.v_proj)}
    for linear in module.modules():
        if type(linear) in (nn.Linear, _AnsweringLinear) and linear not in joined:
            assert isinstance(linear, nn.Linear)
            linear.__class__ = _AnsweringLinear
            answering = cast(_AnsweringLinear, linear)
            answering.fixed = FixedLinear(linear.weight, linear.bias, dtype)


def product_dtype(module: nn.Module) -> torch.dtype:
    """What the linear maps within give where no gradient is asked for."""
    first = next((each for each in module.modules() if isinstance(each, _AnsweringLinear)), None)
    return next(module.parameters()).dtype if first is None else first.fixed.dtype
