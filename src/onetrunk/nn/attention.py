"""Grouped-query attention, by default with rotary positions and normed queries and keys (Qwen3's, arXiv 2505.09388).

B batch, T tokens, D width, H heads, K key-value heads, h head width.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from onetrunk.core.batch import Layout
from onetrunk.core.config import Config
from onetrunk.core.kernels import by_hand
from onetrunk.nn.kv_cache import KeyValues
from onetrunk.nn.norm import RMSNorm
from onetrunk.nn.plain_attention import plain_attention

_SHORT = 640  # keys: a text of 512 with its label is among them, in a sequence that packing made wider too

Bias = Literal["none", "qkv", "all"]
Turn = tuple[Tensor, Tensor] | None  # cos and sin of every position; None: positions are not rotary


class Stretch(Config):
    """Longer contexts from the same rotations (Llama 3's, arXiv 2407.21783): waves longer than `original / low`
    positions turn `factor` times slower, those shorter than `original / high` as before, those between in between."""

    factor: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    original: int = Field(ge=1)  # context before


class Rotary(nn.Module):
    """Rotary position embedding (arXiv 2104.09864), halves rotated together as in the Hugging Face checkpoints."""

    def __init__(self, head_width: int, theta: float, stretch: Stretch | None = None) -> None:
        super().__init__()
        self.head_width, self.theta, self.stretch = head_width, theta, stretch

    def forward(self, pos: Tensor) -> tuple[Tensor, Tensor]:
        """pos [..., T] to cos and sin [..., 1, T, h / 2] (the axis of heads is broadcast)."""
        inverse = self.theta ** -(torch.arange(0, self.head_width, 2, device=pos.device).float() / self.head_width)
        if (s := self.stretch) is not None:
            turns = s.original * inverse / (2 * math.pi)  # in the context before
            kept = ((turns - s.low) / (s.high - s.low)).clamp(0, 1)
            inverse = inverse * (kept + (1 - kept) / s.factor)
        angle = pos[..., None].float() * inverse
        return angle.cos().unsqueeze(-3), angle.sin().unsqueeze(-3)


def rotate(x: Tensor, rotary: Turn) -> Tensor:
    """x [B, H, T, h]."""
    if rotary is None:
        return x
    cos, sin = (turn.to(x.dtype) for turn in rotary)
    if by_hand(x) and torch.is_grad_enabled():
        return _Rotate.apply(x, cos, sin)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class _Rotate(torch.autograd.Function):
    """In place, where PyTorch's formulas make a dozen tensors; and each way in the order that is wanted next."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate_into(x.new_empty(x.shape), x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        B, H, T, h = dy.shape
        return _rotate_into(dy.new_empty(B, T, H, h).transpose(1, 2), dy, cos, -sin), None, None


def _rotate_into(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    (a, b), (first, second) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=second).addcmul_(a, sin)
    return out


class Attention(nn.Module):
    """x_BTD to the same shape. The layout (or a cache and a mask) says who sees whom."""

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        eps: float,
        qk_norm: bool = True,
        bias: Bias = "none",
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.q_proj = nn.Linear(width, heads * head_width, bias=bias != "none")
        self.k_proj = nn.Linear(width, kv_heads * head_width, bias=bias != "none")
        self.v_proj = nn.Linear(width, kv_heads * head_width, bias=bias != "none")
        self.o_proj = nn.Linear(heads * head_width, width, bias=bias == "all")
        self.q_norm = RMSNorm(head_width, eps=eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_width, eps=eps) if qk_norm else nn.Identity()

    def _project(self, x_BTD: Tensor, rotary: Turn) -> tuple[Tensor, Tensor, Tensor]:
        B, T, _ = x_BTD.shape
        q = self.q_proj(x_BTD).view(B, T, self.heads, self.head_width)
        k = self.k_proj(x_BTD).view(B, T, self.kv_heads, self.head_width)
        v = self.v_proj(x_BTD).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        q = rotate(self.q_norm(q).transpose(1, 2), rotary).to(v.dtype)
        k = rotate(self.k_norm(k).transpose(1, 2), rotary).to(v.dtype)
        return q, k, v

    def forward(self, x_BTD: Tensor, layout: Layout, rotary: Turn) -> Tensor:
        q, k, v = self._project(x_BTD, rotary)
        mask = None if layout.causal or layout.full else layout.mask()
        return self._attend(q, k, v, mask, layout.causal)

    def extend(
        self, x_BTD: Tensor, rotary: Turn, cache: KeyValues, layer: int, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New positions that see what the cache holds of this layer, and each other, as the mask says; also returns all
        keys and values that they saw."""
        q, k, v = self._project(x_BTD, rotary)
        keys, values = cache.append(layer, k, v)
        return self._attend(q, keys, values, mask, False), keys, values

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        y = plain_attention(q, k, v, mask, causal) if _plainly(q, k) else self._fused(q, k, v, mask, causal)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        grouped = self.kv_heads != self.heads
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


def _plainly(q: Tensor, k: Tensor) -> bool:
    """Is the formula faster than PyTorch's kernel, whose backward pass is slow in bf16 on a CPU? Forward and backward,
    5 times at T = 64, 1.8 at 256 and 512, still 1.4 at 1,024 (with AMX); about 2 from 64 to 640, 1.6 at 1,024 (with
    AVX-512 bf16). From there on its probabilities take memory."""
    return by_hand(q, compiled=True) and q.dtype == torch.bfloat16 and q.requires_grad and k.shape[2] <= _SHORT
