"""Convolutions before the trunk: residual stages (arXiv 1512.03385, normed first as in 1603.05027), each at half the
resolution of the one before. With them a trunk learns from fewer pictures (arXiv 2106.14881)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.core.kernels import plain


class Convolution(nn.Conv2d):
    """Around each position, `side` odd, without bias. To Muon it is a matrix."""

    def __init__(self, channels: int, out: int, side: int = 3, stride: int = 1) -> None:
        super().__init__(channels, out, side, stride=stride, padding=side // 2, bias=False)


class Residual(nn.Module):
    """[n, channels, S, S] to [n, out, S / stride, S / stride].

    x ──┬─ norm ─ ReLU ─ convolution ─ norm ─ ReLU ─ convolution ─(+)──
        └─ mean of stride × stride ─ 1 × 1 where channels change ──┘
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(1, channels), Convolution(channels, out, stride=stride)
        self.norm2, self.conv2 = nn.GroupNorm(1, out), Convolution(out, out)
        nn.init.zeros_(self.conv2.weight)  # a block starts as its shortcut, as the trunk's do
        self.mean = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.widen = Convolution(channels, out, side=1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return self.widen(self.mean(x)) + self.conv2(F.relu(self.norm2(y)))


class ResidualStages(nn.Module):
    """Pictures [n, channels, S, S] to [n, `channels_out`, S / q, S / q], where q is the largest power of 2 in `patch`
    and `rest` is what remains of a patch's side.

    `depth` blocks a stage; the first stage has `first` channels (at half the side, where q > 1), every later one half
    the side and twice the channels.
    """

    def __init__(self, channels: int, first: int, patch: int, depth: int) -> None:
        super().__init__()
        halvings = (patch & -patch).bit_length() - 1
        self.rest = patch >> halvings
        self.blocks = nn.Sequential(nn.Conv2d(channels, first, 3, stride=2 if halvings else 1, padding=1, bias=False))
        inner = first
        for stage in range(max(1, halvings)):
            for index in range(depth):
                self.blocks.append(Residual(inner, first << stage, 2 if stage and not index else 1))
                inner = first << stage
        self.norm, self.channels_out = nn.GroupNorm(1, inner), inner

    def forward(self, x: Tensor) -> Tensor:
        if not plain():  # several rows at once (`torch.func.vmap`) know one order in memory only
            x = x.contiguous(memory_format=torch.channels_last)
        return F.relu(self.norm(self.blocks(x)))
