"""Films in the network: a convolutional stem on each frame, then a position for each patch of a few frames."""

from __future__ import annotations

from torch import Tensor, nn

from onetrunk.columns.families.patches.module import PatchModule
from onetrunk.columns.video.encoder import VideoEncoder
from onetrunk.nn.convolution import ResidualStages
from onetrunk.nn.heads.flow import SINUSOIDS, sinusoidal_embedding
from onetrunk.nn.init import normal


class VideoModule(PatchModule[VideoEncoder]):
    def __init__(self, encoder: VideoEncoder, width: int) -> None:
        super().__init__(encoder, width)
        self.stem = ResidualStages(encoder.channels, self.options.stem, encoder.patch, depth=1)
        cell = (self.options.tube, self.stem.rest, self.stem.rest)
        self.to_width = nn.Conv3d(self.stem.channels_out, width, cell, stride=cell)
        self.position_embedding = nn.Parameter(normal(encoder.grid.count, width, std=0.05))
        self.level_embedding = nn.Linear(SINUSOIDS, width)
        self.head = nn.Linear(width, encoder.grid.patch_size)
        nn.init.zeros_(self.head.weight)

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        pixels, level = content["pixels"], content["level"]
        m, t = pixels.shape[:2]
        x = self.stem(pixels.flatten(0, 1))
        x = self.to_width(x.view(m, t, *x.shape[1:]).transpose(1, 2)).flatten(2).transpose(1, 2)  # [m, P, D]
        return (x + self.position_embedding + self.level_embedding(sinusoidal_embedding(level))).flatten(0, 1)
