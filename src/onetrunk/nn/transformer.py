"""The default trunk: a pre-norm transformer whose block is Qwen3's, so a text-only folder can be its checkpoint.

A few fields make it GPT-2, BERT, ALBERT, ModernBERT, ViT, CLIP, Llama, Gemma 3, OLMo 2 or Whisper's encoder: their
weights fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from onetrunk.core.batch import Layout
from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError
from onetrunk.nn.attention import Attention, Bias, CosSin, RopeScaling, Rotary
from onetrunk.nn.block import NORMS, Activation, Block, NormPlace, build_mlp
from onetrunk.nn.init import normal
from onetrunk.nn.kv_cache import Cache, KeyValues, SlotCache
from onetrunk.nn.packed import with_tiles

Watch = Callable[[int, Tensor], None]


class TransformerConfig(Config):
    kind: Literal["transformer"] = "transformer"
    width: int = Field(128, ge=8, le=16384)
    layers: int = Field(4, ge=1, le=256)
    heads: int = Field(4, ge=1, le=256)
    kv_heads: int | None = Field(None, ge=1, le=256)  # None: as many as heads
    mlp_width: int | None = Field(None, ge=8, le=131072)  # None: as many weights as a plain MLP of 4 * width
    activation: Activation = "swiglu"
    dropout: float = Field(0.0, ge=0, lt=1)
    rope_theta: float = Field(10_000.0, gt=1)
    eps: float = Field(1e-6, gt=0)
    head_width: int | None = Field(None, ge=1, le=1024)  # None: width / heads
    norm: Literal["rms", "layer"] = "rms"
    norm_place: NormPlace = "pre"  # of attention and MLP: before, after, of what each gives, or before and of that
    norm_first: bool = False  # norm what enters
    bare_first: bool = False  # the first attention norms nothing before it: what enters is normed
    qk_norm: bool = True  # norm queries and keys
    qk_norm_whole: bool = False  # of all heads together
    bias: Bias = "none"  # of the linear maps
    positions: Literal["rotary", "learned", "none"] = "rotary"  # none: the columns' own embeddings know them
    max_positions: int = Field(1024, ge=1, le=1 << 22)  # of learned positions
    rope_scaling: RopeScaling | None = None
    rope_layers: tuple[Literal["rotary", "local", "none"], ...] | None = None  # of each block; None: all are rotary
    rope_local_theta: float = Field(10_000.0, gt=1)  # of those that are local, which are not scaled
    entry_width: int | None = Field(None, ge=1, le=16384)  # numbers that enter, the rest of the width being zeros

    @model_validator(mode="after")
    def _heads_fit(self) -> TransformerConfig:
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads should divide heads ({self.heads})")
        if self.width_of_heads < 1 or (self.positions == "rotary" and self.width_of_heads % 2):
            raise ValueError(
                f"with rotary positions a head's width (head_width, or width / heads) should be even; it is "
                f"{self.width_of_heads}"
            )
        return self

    @property
    def width_of_heads(self) -> int:
        return self.head_width or self.width // self.heads


class Transformer(nn.Module):
    """x_BTD to h_BTD, normed."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        head_width = config.width_of_heads
        bias = config.bias
        gated = config.activation in ("swiglu", "geglu", "geglu_tanh")
        hidden = config.mlp_width or (8 * ((8 * width // 3 + 7) // 8) if gated else 4 * width)
        norms = 4 if config.norm_place == "both" else 2
        self.layers = nn.ModuleList(
            Block(
                Attention(
                    width, heads, config.kv_heads or heads, head_width, config.eps, config.qk_norm, bias,
                    config.qk_norm_whole,
                ),
                build_mlp(config.activation, width, hidden, bias == "all"),
                [nn.Identity() if config.bare_first and i == j == 0 else self._norm() for j in range(norms)],
                config.norm_place,
                config.dropout,
            )
            for i in range(config.layers)
        )  # fmt: skip
        self.norm = nn.Identity() if config.norm_place == "post" else self._norm()
        self.first_norm = self._norm(config.entry_width) if config.norm_first else nn.Identity()
        if config.entry_width is not None:
            self.entry_proj = nn.Linear(config.entry_width, width)
        self.rotary = Rotary(head_width, config.rope_theta, config.rope_scaling)
        self.local_rotary = Rotary(head_width, config.rope_local_theta)
        self.rope_layers = config.rope_layers or ("rotary",) * config.layers
        if len(self.rope_layers) != config.layers:
            raise UsageError(f"rope_layers speaks of {len(self.rope_layers)} blocks, the trunk has {config.layers}.")
        if config.positions == "learned":
            self.position_embedding = nn.Parameter(normal(config.max_positions, width, std=0.05))
        for name, parameter in self.layers.named_parameters():
            if name.endswith("proj.bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                # Each block starts as the identity (as in muP and modded nanoGPT): deep trunks start stable.
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    nn.init.zeros_(parameter)
                else:
                    nn.init.uniform_(parameter, -(3**0.5) * width**-0.5, 3**0.5 * width**-0.5)

    def forward(self, x_BTD: Tensor, layout: Layout, watch: Watch | None = None) -> Tensor:
        """h_BTD. `watch` is told the number of each block and what leaves it."""
        pos = layout.pos_BT[0] if layout.causal or layout.full else layout.pos_BT
        x_BTD, rotations = self._enter(x_BTD, pos)
        if self.blocks[0]._compiled_call_impl is not None:
            layout = with_tiles(layout, x_BTD.device, self.blocks[0].self_attn.head_width)
        for i, layer in enumerate(self.layers):
            x_BTD = layer(x_BTD, layout, rotations[self.rope_layers[i]])
            if watch is not None:
                watch(i, x_BTD)
        return self.norm(x_BTD)

    @property
    def blocks(self) -> list[Block]:
        """Its equal parts: compiling one compiles all, and their matrices are hidden ones, as Muon asks for."""
        return cast(list[Block], list(self.layers))  # a ModuleList does not say of what

    def flops(self, layout: Layout) -> float:
        """Floating-point operations of a training step. Pairs of positions are those of one document; of a causal one
        half of them."""
        lens = layout.lengths().double()
        pairs = float((lens * (lens + 1)).sum()) / 2 if layout.causal else float(lens.square().sum())
        attention = self.blocks[0].self_attn
        compared = len(self.layers) * attention.heads * attention.head_width
        return 6 * _weights(self.layers) * float(lens.sum()) + 12 * compared * pairs

    def _norm(self, width: int | None = None) -> nn.Module:
        return NORMS[self.config.norm](width or self.config.width, eps=self.config.eps)

    def _enter(self, x_BTD: Tensor, pos: Tensor) -> tuple[Tensor, dict[str, CosSin]]:
        """What the first layer gets, and how queries and keys are rotated in layers of each kind. pos [B, T] or, one
        row for all, [T]."""
        c = self.config
        if c.positions == "learned":
            if not torch.compiler.is_compiling() and int(pos.max()) >= c.max_positions:
                raise UsageError(
                    f"This trunk knows {c.max_positions:,} positions; a column takes {int(pos.max()) + 1:,}. "
                    "Shorten its values (columns.NAME.length)."
                )
            x_BTD = x_BTD + F.embedding(pos, self.position_embedding)
        if c.entry_width is None:
            x_BTD = self.first_norm(x_BTD)
        else:
            x_BTD = self.entry_proj(self.first_norm(x_BTD[..., : c.entry_width]))
        rotations: dict[str, CosSin] = {"none": None, "rotary": None, "local": None}
        if c.positions == "rotary":
            rotations["rotary"] = self.rotary(pos)
            rotations["local"] = self.local_rotary(pos) if "local" in self.rope_layers else None
        return x_BTD, rotations

    def start_cache(self, n: int, device: torch.device) -> Cache:
        """An empty cache for n documents."""
        attention = self.blocks[0].self_attn
        empty = torch.zeros(n, attention.kv_heads, 0, attention.head_width, device=device)
        count = len(self.layers)
        return Cache([empty] * count, [empty] * count, torch.zeros(n, 0, dtype=torch.bool, device=device))

    @property
    def max_positions(self) -> int | None:
        """Of one column; None: as many as one likes."""
        return self.config.max_positions if self.config.positions == "learned" else None

    def start_slots(self, slots: int, positions: int, device: torch.device, dtype: torch.dtype) -> SlotCache:
        """A cache for as many documents of so many positions each, all of it allocated now."""
        attention = self.blocks[0].self_attn
        return SlotCache(len(self.layers), slots, positions, attention.kv_heads, attention.head_width, dtype, device)

    def extend(
        self, x_NTD: Tensor, pos_NT: Tensor, valid_NT: Tensor, cache: KeyValues, causal: bool, keep: bool | Tensor
    ) -> tuple[Tensor, KeyValues]:
        """New positions of N documents that see the cache and each other (earlier ones only, if `causal`).

        Where `valid_NT` is false there is only padding, which comes last. With `keep` the returned cache holds the new
        positions too; a `SlotCache` is itself changed, and may keep those of some documents (bool [N]).
        """
        mask = cache.mask(valid_NT, causal)
        x_NTD, rotations = self._enter(x_NTD, pos_NT)
        keys, values = [], []
        for i, layer in enumerate(self.blocks):
            x_NTD, k, v = layer.extend(x_NTD, rotations[self.rope_layers[i]], cache, i, mask)
            keys.append(k)
            values.append(v)
        return self.norm(x_NTD), cache.after(keys, values, valid_NT, keep)


def _weights(layers: nn.Module) -> int:
    """Numbers of all matrices."""
    return sum(p.numel() for p in layers.parameters() if p.ndim == 2)
