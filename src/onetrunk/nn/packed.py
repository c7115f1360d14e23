"""Attention of packed documents on a GPU by FlexAttention (arXiv 2412.05496): a kernel made of the rule of who sees
whom, which skips the tiles of queries and keys in which nobody sees anybody.

It is a kernel only as part of a compiled block; elsewhere PyTorch's own attention is given the mask.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from onetrunk.core.batch import Layout

_DEVICES = ("cuda",)  # where it has a backward pass
_NARROWEST = 16  # heads that its kernels take


def with_tiles(layout: Layout, device: torch.device, head_width: int) -> Layout:
    """The layout, which also says which tiles compiled blocks may skip, where they can make something of it."""
    if layout.causal or layout.full or device.type not in _DEVICES or head_width < _NARROWEST:
        return layout
    from torch.nn.attention.flex_attention import create_block_mask

    B, T = layout.doc_BT.shape
    return replace(layout, tiles=create_block_mask(layout.rule(), B, None, T, T, device))


def tiled_by_mask(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """q [B, H, T, h]; k, v [B, K, T, h]. What `F.scaled_dot_product_attention` gives with the layout's mask."""
    from torch.nn.attention.flex_attention import flex_attention

    y = flex_attention(q, k, v, block_mask=layout.tiles, enable_gqa=q.shape[1] != k.shape[1])
    assert isinstance(y, Tensor)  # not asked for more
    return y
