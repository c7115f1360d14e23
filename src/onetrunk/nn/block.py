"""One layer of the trunk.

x ──┬─ norm ─ attention ─(+)──┬─ norm ─ MLP ─(+)── x
    └──────────────────────┘  └────────────┘
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.core.sequence import Plan
from onetrunk.nn.attention import Attention


class SwiGLU(nn.Module):
    """Gated MLP (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class SquaredReLU(nn.Module):
    """MLP with ReLU² (Primer, arXiv 2109.08668): cheaper a step on small trunks."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.relu(self.up_proj(x)).square())


MLPS = {"swiglu": SwiGLU, "relu2": SquaredReLU}


class Block(nn.Module):
    def __init__(self, attention: Attention, mlp: nn.Module, width: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(width, eps=eps)
        self.self_attn = attention
        self.post_attention_layernorm = nn.RMSNorm(width, eps=eps)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, plan: Plan, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.self_attn(self.input_layernorm(x_BTD), plan, rotary))
        return x_BTD + self.dropout(self.mlp(self.post_attention_layernorm(x_BTD)))

    def extend(
        self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, keys, values = self.self_attn.extend(self.input_layernorm(x_BTD), rotary, keys, values, mask)
        x_BTD = x_BTD + y
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD)), keys, values
