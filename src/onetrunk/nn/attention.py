"""Grouped-query attention, by default with rotary positions and normed queries and keys (Qwen3's, arXiv 2505.09388).

B batch, T tokens, D width, H heads, K key-value heads, h head width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from onetrunk.core.batch import Layout
from onetrunk.core.config import Config
from onetrunk.core.kernels import by_hand
from onetrunk.nn.kernels.cpu import rotary as cpu
from onetrunk.nn.kernels.cpu.attention import tiled_attention
from onetrunk.nn.kernels.cpu.linear import FixedLinear
from onetrunk.nn.kv_cache import KeyValues
from onetrunk.nn.norm import RMSNorm
from onetrunk.nn.packed import tiled_by_mask

_SHORT = 640  # keys: a text of 512 with its label is among them, in a sequence that packing made wider too

Bias = Literal["none", "qkv", "all"]
CosSin = tuple[Tensor, Tensor] | None  # cos and sin of every position; None: positions are not rotary


class RopeScaling(Config):
    """Longer contexts from the same rotations, of which there is one a pair of numbers.

    llama3 (arXiv 2407.21783): wavelengths above `original / low` positions become `factor` times longer, those below
    `original / high` stay, and those between change in part. yarn (arXiv 2309.00071): the same, but between the two it
    is the number of the pair that counts, by default in whole numbers. linear: all become `factor` times longer.
    divided: each becomes as many times longer as `each` says (LongRoPE, arXiv 2402.13753).
    """

    kind: Literal["llama3", "yarn", "linear", "divided"] = "llama3"
    factor: float = Field(1.0, gt=0)
    low: float = Field(1.0, gt=0)
    high: float = Field(4.0, gt=0)
    original: int = Field(1, ge=1)  # context before
    whole: bool = True
    each: tuple[float, ...] | None = None
    attention: float = Field(1.0, gt=0)  # queries and keys are multiplied by it


class Rotary(nn.Module):
    """Rotary position embedding (arXiv 2104.09864), halves rotated together as in the Hugging Face checkpoints."""

    def __init__(self, head_width: int, theta: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.head_width, self.theta, self.scaling = head_width, theta, scaling

    def forward(self, pos: Tensor) -> tuple[Tensor, Tensor]:
        """pos [..., T] to cos and sin [..., 1, T, h / 2] (the axis of heads is broadcast)."""
        inverse = self._unscaled(pos.device)
        if (s := self.scaling) is not None:
            inverse = self._scaled(inverse, s)
        angle = (pos[..., None].float() * inverse).unsqueeze(-3)
        size = 1.0 if s is None else s.attention
        return angle.cos() * size, angle.sin() * size

    def slowed(self) -> Tensor:
        """How many times slower each pair turns than without scaling, float32 [h / 2]."""
        inverse = self._unscaled(torch.device("cpu"))
        return torch.ones_like(inverse) if self.scaling is None else inverse / self._scaled(inverse, self.scaling)

    def _unscaled(self, device: torch.device) -> Tensor:
        """Radians a position [h / 2]."""
        return torch.as_tensor(
            self.theta ** -(torch.arange(0, self.head_width, 2, device=device).float() / self.head_width)
        )

    def _scaled(self, inverse: Tensor, s: RopeScaling) -> Tensor:
        """Radians a position [h / 2], once contexts are longer."""
        if s.kind == "divided":
            return inverse / torch.tensor(s.each, device=inverse.device)
        if s.kind == "linear":
            return inverse / s.factor
        if s.kind == "llama3":
            rotations = s.original * inverse / (2 * math.pi)  # in the context before
            kept = ((rotations - s.low) / (s.high - s.low)).clamp(0, 1)
        else:
            first, last = self._pair_that_turns(s.high, s), self._pair_that_turns(s.low, s)
            if s.whole:
                first, last = math.floor(first), math.ceil(last)
            first, last = max(first, 0), min(last, self.head_width - 1)
            pair = torch.arange(len(inverse), device=inverse.device)
            kept = 1 - ((pair - first) / (last - first or 0.001)).clamp(0, 1)
        return inverse * (kept + (1 - kept) / s.factor)

    def _pair_that_turns(self, times: float, s: RopeScaling) -> float:
        """Which pair, in a fraction, turns so many times in the context before."""
        return self.head_width * math.log(s.original / (times * 2 * math.pi)) / (2 * math.log(self.theta))


def rotate(x: Tensor, cos_sin: CosSin) -> Tensor:
    """x [B, H, T, h]."""
    if cos_sin is None:
        return x
    cos, sin = (each.to(x.dtype) for each in cos_sin)
    if by_hand(x) and torch.is_grad_enabled():
        return cpu.rotate(x, cos, sin)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


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
        norm_whole: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width, self.eps = heads, kv_heads, head_width, eps
        self.q_proj = nn.Linear(width, heads * head_width, bias=bias != "none")
        self.k_proj = nn.Linear(width, kv_heads * head_width, bias=bias != "none")
        self.v_proj = nn.Linear(width, kv_heads * head_width, bias=bias != "none")
        self.o_proj = nn.Linear(heads * head_width, width, bias=bias == "all")
        self.norm_whole = norm_whole  # all heads' queries are normed together, and all keys; else each head's
        sizes = (heads * head_width, kv_heads * head_width) if norm_whole else (head_width, head_width)
        self.q_norm = RMSNorm(sizes[0], eps=eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(sizes[1], eps=eps) if qk_norm else nn.Identity()
        self._joined: FixedLinear | None = None

    def fix(self, dtype: torch.dtype) -> bool:
        """From now on queries, keys and values are one product, of weights as they are now (`nn.fixed`), where no
        gradient is asked for. False where their maps are no plain ones, and nothing is done."""
        maps = (self.q_proj, self.k_proj, self.v_proj)
        if not all(type(each) is nn.Linear for each in maps):
            return False
        biases: list[Tensor] = [each.bias for each in maps if each.bias is not None]
        weight = torch.cat([each.weight.detach() for each in maps])
        self._joined = FixedLinear(weight, torch.cat(biases) if biases else None, dtype)
        if isinstance(self.q_norm, RMSNorm) and isinstance(self.k_norm, RMSNorm) and not self.norm_whole:
            norms = ((self.q_norm.weight, self.heads), (self.k_norm.weight, self.kv_heads))
            self._head_norms = torch.cat([each.detach().expand(count, -1) for each, count in norms])
        return True

    def _project(self, x_BTD: Tensor, cos_sin: CosSin) -> tuple[Tensor, Tensor, Tensor]:
        B, T, _ = x_BTD.shape
        if self._joined is None or torch.is_grad_enabled() or torch.is_autocast_enabled(x_BTD.device.type):
            q, k, v = self.q_proj(x_BTD), self.k_proj(x_BTD), self.v_proj(x_BTD)
        else:
            joined = self._joined(x_BTD)
            if joined.device.type == "cpu":  # whose attention of one query is 11 times as fast in fp32 as in bf16
                joined = joined.to(x_BTD.dtype)
            if self._head_norms is not None:
                return self._normed_together(joined.unflatten(-1, (-1, self.head_width)), self._head_norms, cos_sin)
            kv = self.kv_heads * self.head_width
            q, k, v = joined.split([self.heads * self.head_width, kv, kv], dim=-1)
        if self.norm_whole:
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(B, T, self.heads, self.head_width)
        k = k.view(B, T, self.kv_heads, self.head_width)
        if not self.norm_whole:
            q, k = self.q_norm(q), self.k_norm(k)
        v = v.view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        q = rotate(q.transpose(1, 2), cos_sin).to(v.dtype)
        k = rotate(k.transpose(1, 2), cos_sin).to(v.dtype)
        return q, k, v

    def _normed_together(self, qkv: Tensor, norms: Tensor, cos_sin: CosSin) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys are so small that the number of operations is what they cost: each is done for both at once.
        qkv [B, T, H + 2 K, h]; norms [H + K, h]."""
        qk, v = qkv.transpose(1, 2).split([len(norms), self.kv_heads], dim=1)
        qk = F.rms_norm(qk, (self.head_width,), None, self.eps) * norms[:, None]
        q, k = rotate(qk, cos_sin).to(v.dtype).split([self.heads, self.kv_heads], dim=1)
        return q, k, v

    def forward(self, x_BTD: Tensor, layout: Layout, cos_sin: CosSin) -> Tensor:
        q, k, v = self._project(x_BTD, cos_sin)
        if layout.tiles is not None and torch.compiler.is_compiling():
            return self._leave(tiled_by_mask(q, k, v, layout))
        mask = None if layout.causal or layout.full else layout.mask()
        return self._attend(q, k, v, mask, layout.causal)

    def weights(self, x_BTD: Tensor, layout: Layout, cos_sin: CosSin) -> Tensor:
        """How much each position looks at each other, [B, H, T, T]: what `forward` never holds, for explanations."""
        q, k, _ = self._project(x_BTD, cos_sin)
        k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
        logits = q.float() @ k.float().transpose(-1, -2) / self.head_width**0.5
        return logits.masked_fill(~layout.mask(), -torch.inf).softmax(-1).nan_to_num(0.0)

    def extend(
        self, x_BTD: Tensor, cos_sin: CosSin, cache: KeyValues, layer: int, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New positions that see what the cache holds of this layer, and each other, as the mask says; also returns all
        keys and values that they saw."""
        q, k, v = self._project(x_BTD, cos_sin)
        keys, values = cache.append(layer, k, v)
        return self._attend(q, keys, values, mask, False), keys, values

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        y = tiled_attention(q, k, v, mask, causal) if _in_tiles(q, k) else self._fused(q, k, v, mask, causal)
        return self._leave(y)

    def _leave(self, y_BHTh: Tensor) -> Tensor:
        y: Tensor = self.o_proj(y_BHTh.transpose(1, 2).flatten(2))
        return y

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        grouped = self.kv_heads != self.heads
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


def _in_tiles(q: Tensor, k: Tensor) -> bool:
    """Is the formula, in tiles, faster than PyTorch's kernel? On a CPU in bf16 the kernel's backward pass is slow.

    Forward and backward it is 5 times as fast at T = 64, 1.8 at 256 and 512, still 1.4 at 1,024 (with AMX); about 2
    from 64 to 640, 1.6 at 1,024 (with AVX-512 bf16). From there on its probabilities take memory.
    """
    return by_hand(q, compiled=True) and q.dtype == torch.bfloat16 and q.requires_grad and k.shape[2] <= _SHORT
