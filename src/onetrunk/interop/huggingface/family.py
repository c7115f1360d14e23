"""What a family of checkpoints is: how its configuration and its tensors' names translate to ours. `families` is the
table; `settings` and `reader` follow it.

A tensor's name is a prefix, a layer's place, and one name for each of ours. Several of ours may be one of theirs: they
are its rows, in the order in which they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Names = Mapping[str, str | tuple[str, ...]]  # several: the first one that is there


@dataclass(frozen=True)
class Pattern:
    """What kind each layer is: `listed` in the configuration, or every n-th another one than the others."""

    listed: str
    kinds: Mapping[Any, str]  # what is listed, to ours
    every: str  # the setting that is n
    n: int  # where it is not said
    shift: int  # layers are counted from here
    nth: str
    others: str


@dataclass(frozen=True)
class Rope:
    """Rotary positions: settings, and what they are where they are not said."""

    theta: float = 10_000.0
    key: str = "rope_theta"
    local_theta: float | None = None  # of layers with a window, where theirs differ
    local_key: str = ""
    scaled: tuple[str, ...] = ("full_attention",)  # which layers `rope_scaling` is of, where their rotations differ
    layers: Pattern | None = None


@dataclass(frozen=True)
class Window:
    """Layers see no further than this. The context ends where a window does, and so everything is seen."""

    key: str
    halved: bool = False  # it reaches half of it to both sides, and the position itself


@dataclass(frozen=True)
class Family:
    """`layer_names` (of what is in a layer) and `other_names` translate our names of modules and tensors to theirs. In
    `layer`, which stands before the former, {} is the layer's number."""

    reads: str  # what kind of column its trunk reads
    layer: str
    layer_names: Mapping[str, str]
    other_names: Names
    settings: Mapping[str, str]  # our trunk's, to their names
    fixed: Mapping[str, Any]  # settings of our trunk that all of the family have
    defaults: Mapping[str, Any]  # what a configuration means that does not say it
    only: Mapping[str, Any] = field(default_factory=dict)  # settings of which one value alone is expressed here
    prefixes: tuple[str, ...] = ("",)  # in front of all names; the first that fits
    causal: bool = False
    gated: bool = False
    rope: Rope | None = None
    window: Window | None = None
    biases: Mapping[str, bool | str] = field(default_factory=dict)  # of ours: whether, or which setting says so
    biased: bool = True  # those that are not named
    transposed: bool = False  # are the layers' matrices [in, out]?
    groups: str = ""  # the setting that says how many groups of layers share their tensors
    skipped: str = ""  # the setting whose positions, from the first to it, are never used
    stem: bool = True  # is what embeds its values expressed here too?
    first: tuple[str, ...] = ()  # learnt vectors before the first patch
    preparation: Mapping[str, Any] = field(default_factory=dict)  # of pictures, where their files do not say
    resizes: bool = False  # pictures of other sizes than it was trained on have positions between those it learnt
    scales: Mapping[str, str] = field(default_factory=dict)  # our maps to vectors that their outputs are multiplied by
    norms_from_one: bool = False  # are norms' weights kept as what is added to 1?
    tokens_scaled: bool = False  # are embeddings multiplied by the square root of the width?
    query_scale: str = ""  # the setting that says what queries are divided by, squared; else the head's width
    filled: bool = False  # does it see padding behind every text, up to its whole length?
    readout: str = "gelu"  # the activation of the layer before the read-out, or the setting that names it
    mlp_ratio: str = ""  # the setting that says how many times the width the MLP's is
