"""Pictures in the network: a convolutional stem, which sees across borders, then a position for each patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onetrunk.columns.families.patches.module import PatchModule
from onetrunk.columns.image.encoder import ImageEncoder
from onetrunk.nn.convolution import ResidualStages
from onetrunk.nn.heads.flow import SINUSOIDS, sinusoidal_embedding
from onetrunk.nn.init import normal

_STEM_CHANNELS = {1: 32, 3: 64}  # by the picture's own


class ImageModule(PatchModule[ImageEncoder]):
    def __init__(self, encoder: ImageEncoder, width: int) -> None:
        super().__init__(encoder, width)
        channels, patch, tokens = encoder.channels, encoder.patch, encoder.prefix_count
        stem = self._stem_channels()
        if stem:
            stages = ResidualStages(channels, stem, patch, self.options.depth)
            channels, patch = stages.channels_out, stages.rest  # what is left of a patch after the stem
        self.stem: nn.Module = stages if stem else nn.Identity()
        self.to_width = nn.Conv2d(channels, width, patch, stride=patch)
        if tokens:
            self.prefix = nn.Parameter(normal(tokens, width, std=0.05))
        self.position_embedding = nn.Parameter(normal(tokens + encoder.grid.count, width, std=0.05))
        self.level_embedding = nn.Linear(SINUSOIDS, width)
        self.head = nn.Linear(width, encoder.grid.patch_size)
        nn.init.zeros_(self.head.weight)

    def _stem_channels(self) -> int:
        """Patches of few pixels have no inner structure for convolutions to find."""
        if self.options.stem is not None:
            return self.options.stem
        return 0 if self.encoder.patch <= 2 else _STEM_CHANNELS[self.encoder.channels]

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        tokens = self.encoder.prefix_count
        x = self.to_width(self.stem(content["pixels"])).flatten(2).transpose(1, 2)  # [m, P, D]
        first, rest = self.position_embedding[:tokens], self.position_embedding[tokens:]
        x = x + rest + self._embed_level(content["level"])
        if tokens:
            x = torch.cat([(self.prefix + first).expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
        return x.flatten(0, 1)

    def _embed_level(self, level: Tensor) -> Tensor:
        embedded = sinusoidal_embedding(level)
        if self.encoder.like.clean_is_none:
            # Else every number of the same level pushes all patches the same way, much faster than any other weight.
            embedded = embedded - sinusoidal_embedding(torch.ones_like(level))
        return torch.as_tensor(self.level_embedding(embedded))

    def without_noise(self) -> Tensor:
        """[D], what is added to every patch of a picture that is given: it has no noise."""
        return self._embed_level(torch.ones((), device=self.position_embedding.device))
