"""One layer of the trunk.

x ──┬─ norm ─ attention ─(+)──┬─ norm ─ MLP ─(+)── x       pre (arXiv 2002.04745)
    └──────────────────────┘  └────────────┘

x ──┬─ attention ─(+)─ norm ──┬─ MLP ─(+)─ norm ── x       post, as in BERT
    └──────────────┘          └────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.core.batch import Layout
from onetrunk.core.kernels import by_hand
from onetrunk.nn.attention import Attention, CosSin
from onetrunk.nn.dropout import Dropout
from onetrunk.nn.kernels.cpu import squared_relu as cpu
from onetrunk.nn.kv_cache import KeyValues
from onetrunk.nn.norm import RMSNorm

Activation = Literal["swiglu", "relu2", "gelu", "gelu_tanh", "quick_gelu"]

NORMS: dict[str, type[nn.Module]] = {"rms": RMSNorm, "layer": nn.LayerNorm}


def _squared_relu(x: Tensor) -> Tensor:
    return cpu.squared_relu(x) if by_hand(x) and torch.is_grad_enabled() else F.relu(x).square()


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu2": _squared_relu,  # Primer, arXiv 2109.08668: cheaper a step on small trunks
    "gelu": F.gelu,  # arXiv 1606.08415
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # GPT-2's
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP's
}


class SwiGLU(nn.Module):
    """Gated MLP (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=bias)
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MLP(nn.Module):
    """Up, activation, down."""

    def __init__(self, width: int, hidden: int, bias: bool, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(_ACTIVATIONS[self.activation](self.up_proj(x)))


def build_mlp(activation: Activation, width: int, hidden: int, bias: bool) -> SwiGLU | MLP:
    return SwiGLU(width, hidden, bias) if activation == "swiglu" else MLP(width, hidden, bias, activation)


class Block(nn.Module):
    """`norms` are attention's and the MLP's, named as in Qwen3 wherever they stand."""

    def __init__(
        self, attention: Attention, mlp: SwiGLU | MLP, norms: tuple[nn.Module, nn.Module], post: bool, dropout: float
    ) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = norms[0], attention
        self.post_attention_layernorm, self.mlp = norms[1], mlp
        self.post = post
        self.dropout = Dropout(dropout)

    def forward(self, x_BTD: Tensor, layout: Layout, cos_sin: CosSin) -> Tensor:
        y = self.self_attn(self._before(self.input_layernorm, x_BTD), layout, cos_sin)
        return self._mixed(self._after(self.input_layernorm, x_BTD, y))

    def extend(
        self, x_BTD: Tensor, cos_sin: CosSin, cache: KeyValues, layer: int, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, keys, values = self.self_attn.extend(self._before(self.input_layernorm, x_BTD), cos_sin, cache, layer, mask)
        return self._mixed(self._after(self.input_layernorm, x_BTD, y)), keys, values

    def _mixed(self, x_BTD: Tensor) -> Tensor:
        norm = self.post_attention_layernorm
        return self._after(norm, x_BTD, self.mlp(self._before(norm, x_BTD)))

    def _before(self, norm: nn.Module, x_BTD: Tensor) -> Tensor:
        return x_BTD if self.post else norm(x_BTD)

    def _after(self, norm: nn.Module, x_BTD: Tensor, y_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.dropout(y_BTD)
        return norm(x_BTD) if self.post else x_BTD
