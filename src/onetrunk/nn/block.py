"""One layer of the trunk.

x ──┬─ norm ─ attention ─(+)──┬─ norm ─ MLP ─(+)── x       pre (arXiv 2002.04745)
    └──────────────────────┘  └────────────┘

x ──┬─ attention ─(+)─ norm ──┬─ MLP ─(+)─ norm ── x       post, as in BERT
    └──────────────┘          └────────┘

x ──┬─ attention ─ norm ─(+)──┬─ MLP ─ norm ─(+)── x       output, as in OLMo 2 (arXiv 2501.00656)
    └─────────────────────┘   └──────────────┘

x ──┬─ norm ─ attention ─ norm ─(+)──┬─ norm ─ MLP ─ norm ─(+)── x       both, as in Gemma (arXiv 2408.00118)
    └────────────────────────────┘   └─────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from onetrunk.core.batch import Layout
from onetrunk.core.kernels import by_hand
from onetrunk.nn.attention import Attention, CosSin
from onetrunk.nn.dropout import Dropout
from onetrunk.nn.kernels.cpu import squared_relu as cpu
from onetrunk.nn.kv_cache import KeyValues
from onetrunk.nn.norm import RMSNorm

Activation = Literal["swiglu", "geglu", "geglu_tanh", "relu2", "gelu", "gelu_tanh", "quick_gelu"]
NormPlace = Literal["pre", "post", "output", "both"]

NORMS: dict[str, type[nn.Module]] = {"rms": RMSNorm, "layer": nn.LayerNorm}


def _squared_relu(x: Tensor) -> Tensor:
    return cpu.squared_relu(x) if by_hand(x) and torch.is_grad_enabled() else F.relu(x).square()


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu2": _squared_relu,  # Primer, arXiv 2109.08668: cheaper a step on small trunks
    "gelu": F.gelu,  # arXiv 1606.08415
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP's
}


class ActivationLayer(nn.Module):
    """One of them by its name, as a layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return _ACTIVATIONS[self.name](x)


_GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "swiglu": F.silu,
    "geglu": F.gelu,
    "geglu_tanh": partial(F.gelu, approximate="tanh"),
}


class GatedMLP(nn.Module):
    """Up, times a gate, down (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int, bias: bool, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = nn.Linear(width, hidden, bias=bias)
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activate(self.gate_proj(x)) * self.up_proj(x))

    def activate(self, x: Tensor) -> Tensor:
        """The gate's activation."""
        return _GATES[self.activation](x)


class MLP(nn.Module):
    """Up, activation, down."""

    def __init__(self, width: int, hidden: int, bias: bool, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activate(self.up_proj(x)))

    def activate(self, x: Tensor) -> Tensor:
        return _ACTIVATIONS[self.activation](x)


def build_mlp(activation: Activation, width: int, hidden: int, bias: bool) -> GatedMLP | MLP:
    return GatedMLP(width, hidden, bias, activation) if activation in _GATES else MLP(width, hidden, bias, activation)


class Block(nn.Module):
    """`norms` are attention's and the MLP's, named as in Qwen3 wherever they stand; where there are norms before and
    after each, two more for after."""

    def __init__(
        self, attention: Attention, mlp: GatedMLP | MLP, norms: Sequence[nn.Module], place: NormPlace, dropout: float
    ) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = norms[0], attention
        self.post_attention_layernorm, self.mlp = norms[1], mlp
        if place == "both":
            self.attention_output_norm, self.mlp_output_norm = norms[2:]
        self.place = place
        self.dropout = Dropout(dropout)
        self.recomputed = False  # in training: only what enters is kept, and the rest computed again (1604.06174)

    def forward(self, x_BTD: Tensor, layout: Layout, cos_sin: CosSin) -> Tensor:
        if self.recomputed and self.training and torch.is_grad_enabled():
            # From the same random state: dropout draws the same again.
            again: Tensor = checkpoint(self._forward, x_BTD, layout, cos_sin, use_reentrant=False)
            return again
        return self._forward(x_BTD, layout, cos_sin)

    def _forward(self, x_BTD: Tensor, layout: Layout, cos_sin: CosSin) -> Tensor:
        y = self.self_attn(self._before(self.input_layernorm, x_BTD), layout, cos_sin)
        return self._mixed(self._after_attention(x_BTD, y))

    def extend(
        self, x_BTD: Tensor, cos_sin: CosSin, cache: KeyValues, layer: int, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, keys, values = self.self_attn.extend(self._before(self.input_layernorm, x_BTD), cos_sin, cache, layer, mask)
        return self._mixed(self._after_attention(x_BTD, y)), keys, values

    def _after_attention(self, x_BTD: Tensor, y_BTD: Tensor) -> Tensor:
        norm = self.attention_output_norm if self.place == "both" else self.input_layernorm
        return self._after(norm, x_BTD, y_BTD)

    def _mixed(self, x_BTD: Tensor) -> Tensor:
        y = self.mlp(self._before(self.post_attention_layernorm, x_BTD))
        return self._after(self.mlp_output_norm if self.place == "both" else self.post_attention_layernorm, x_BTD, y)

    def _before(self, norm: nn.Module, x_BTD: Tensor) -> Tensor:
        return norm(x_BTD) if self.place in ("pre", "both") else x_BTD

    def _after(self, norm: nn.Module, x_BTD: Tensor, y_BTD: Tensor) -> Tensor:
        if self.place in ("output", "both"):
            return x_BTD + self.dropout(norm(y_BTD))
        x_BTD = x_BTD + self.dropout(y_BTD)
        return norm(x_BTD) if self.place == "post" else x_BTD
