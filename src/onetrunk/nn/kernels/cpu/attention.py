"""Attention by its formula, in tiles. On a CPU in bf16 it is faster than PyTorch's kernel, whose backward pass is slow.

B sequences, H heads, N = B · H; t queries, T keys, h head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from onetrunk.nn.autograd import apply_function

_ROWS, _TILE = 128, 1 << 21  # a tile's queries where not all is seen, and its scores
_EVEN = 32  # keys: products are fast from and to such a border


# Not compiled: its tiles, as many as there are, would all be. `torch.compiler.disable` imports the whole compiler at
# once, which takes a second; what PyTorch uses for itself imports it on the first call.
@torch._disable_dynamo  # type: ignore[attr-defined]
def tiled_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """What `F.scaled_dot_product_attention` computes. q [B, H, t, h]; k, v [B, K, T, h]; mask bool [B, 1, t, T]. A
    query that sees nothing gets a mean of values, where the kernel gives 0: it is padding."""
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    bias = None
    if mask is not None:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, torch.finfo(q.dtype).min)
    tiles = list(_tiles(q, k, mask, causal))
    flat = (x.flatten(0, 1).contiguous() for x in (q * q.shape[-1] ** -0.5, k, v))
    return apply_function(_TiledAttention, *flat, bias, causal, tiles).view_as(q)


@dataclass
class _Tile:
    """What stays in the cache from one operation to the next: some sequences, of N their heads (of one sequence some,
    of several all), some queries, and the keys that these see."""

    b: slice
    n: slice
    t: slice
    T: slice


def _tiles(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Iterator[_Tile]:
    """What no query of a tile sees is left out: of a causal stream what comes later, of documents that share a sequence
    the others."""
    (B, H, t, _), T = q.shape, k.shape[2]
    queries = t if mask is None and not causal else min(_ROWS, t)
    heads = max(1, _TILE // (queries * T))
    sequences, heads = max(1, heads // H), min(heads, H)
    for b in range(0, B, sequences):
        for first in range(0, t, queries):
            rows, at = slice(b, min(b + sequences, B)), slice(first, min(first + queries, t))
            keys = slice(0, at.stop if causal else T)
            if mask is not None and len(seen := mask[rows, 0, at].flatten(0, 1).any(0).nonzero()):
                start, stop = int(seen[0]), int(seen[-1]) + 1
                keys = slice(start // _EVEN * _EVEN, min(-(-stop // _EVEN) * _EVEN, T))
            if sequences > 1:
                yield _Tile(rows, slice(rows.start * H, rows.stop * H), at, keys)
                continue
            for h in range(0, H, heads):
                yield _Tile(rows, slice(b * H + h, b * H + min(h + heads, H)), at, keys)


class _TiledAttention(torch.autograd.Function):
    """softmax(q kT + bias) v: q [N, t, h]; k, v [N, T, h]; bias [B, 1, t, T]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, tiles: list[_Tile]
    ) -> Tensor:
        y, seen = torch.empty_like(q), []
        later = q.new_full((tiles[0].t.stop, tiles[0].t.stop), -torch.inf).triu_(1)  # adding is faster than filling
        for tile in tiles:
            n, t, T = tile.n, tile.t, tile.T
            scores = q[n, t] @ k[n, T].mT
            if bias is not None:
                scores.unflatten(0, (tile.b.stop - tile.b.start, -1)).add_(bias[tile.b, :, t, T])
            if causal:
                rows = t.stop - t.start
                scores[:, :, t].add_(later[:rows, :rows])
            seen.append(scores.softmax(-1))
            y[n, t] = seen[-1] @ v[n, T]
        ctx.tiles = tiles
        ctx.save_for_backward(q, k, v, *seen)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *seen = ctx.saved_tensors
        dq, dk, dv, dy = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v), dy.contiguous()
        for tile, p in zip(ctx.tiles, seen, strict=True):
            n, t, T = tile.n, tile.t, tile.T
            dv[n, T].baddbmm_(p.mT, dy[n, t])
            dp = dy[n, t] @ v[n, T].mT
            scores = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dq[n, t] = scores @ k[n, T]
            dk[n, T].baddbmm_(scores.mT, q[n, t])
        return dq, dk, dv, None, None, None
