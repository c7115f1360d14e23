"""Grouped-query attention with rotary positions and normed queries and keys (Qwen3's, arXiv 2505.09388).

B batch, T tokens, D width, H heads, K key-value heads, h head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.core.sequence import Plan


class Rotary(nn.Module):
    """Rotary position embedding (arXiv 2104.09864), halves rotated together as in the Hugging Face checkpoints."""

    def __init__(self, head_width: int, theta: float) -> None:
        super().__init__()
        self.head_width, self.theta = head_width, theta

    def forward(self, pos: Tensor) -> tuple[Tensor, Tensor]:
        """pos [..., T] to cos and sin [..., 1, T, h / 2] (the axis of heads is broadcast)."""
        inverse = self.theta ** -(torch.arange(0, self.head_width, 2, device=pos.device).float() / self.head_width)
        angle = pos[..., None].float() * inverse
        return angle.cos().unsqueeze(-3), angle.sin().unsqueeze(-3)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, H, T, h]."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


@dataclass
class Cache:
    """Keys and values of positions that later ones may see; documents first. Order within it needs no mask:
    whoever comes later sees all that is valid."""

    keys: list[Tensor]  # a layer: [n, K, t, h]
    values: list[Tensor]
    valid: Tensor  # bool [n, t]

    def select(self, index: Tensor) -> Cache:
        """The documents of `index` [k], repeats allowed: beams, cancelled requests."""
        return Cache([k[index] for k in self.keys], [v[index] for v in self.values], self.valid[index])

    def with_blind(self) -> Cache:
        """The documents, followed by the same with nothing given: for guidance."""
        n = len(self.valid)
        both = self.select(torch.arange(n, device=self.valid.device).repeat(2))
        both.valid[n:] = False
        return both


class Attention(nn.Module):
    """x_BTD to the same shape. The plan (or a cache and a mask) says who sees whom."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_width: int, eps: float) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.q_proj = nn.Linear(width, heads * head_width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * head_width, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * head_width, bias=False)
        self.o_proj = nn.Linear(heads * head_width, width, bias=False)
        self.q_norm = nn.RMSNorm(head_width, eps=eps)
        self.k_norm = nn.RMSNorm(head_width, eps=eps)

    def _project(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        B, T, _ = x_BTD.shape
        q = self.q_proj(x_BTD).view(B, T, self.heads, self.head_width)
        k = self.k_proj(x_BTD).view(B, T, self.kv_heads, self.head_width)
        v = self.v_proj(x_BTD).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        q = rotate(self.q_norm(q).transpose(1, 2), *rotary).to(v.dtype)
        k = rotate(self.k_norm(k).transpose(1, 2), *rotary).to(v.dtype)
        return q, k, v

    def forward(self, x_BTD: Tensor, plan: Plan, rotary: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = self._project(x_BTD, rotary)
        mask = None if plan.causal or plan.full else plan.mask()
        return self._attend(q, k, v, mask, plan.causal)

    def extend(
        self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New positions that see the cached keys and values (mask [n, 1, T, t + T]); also returns all of these."""
        q, k, v = self._project(x_BTD, rotary)
        keys, values = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        return self._attend(q, keys, values, mask, False), keys, values

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        grouped = self.kv_heads != self.heads
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
        return self.o_proj(y.transpose(1, 2).flatten(2))
