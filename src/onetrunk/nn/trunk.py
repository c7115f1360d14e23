"""Which trunk: `kind` in the configuration says."""

from __future__ import annotations

from typing import Any

from torch import nn

from onetrunk.core.config import Config
from onetrunk.core.errors import unknown
from onetrunk.nn.recurrent import Recurrent, RecurrentConfig
from onetrunk.nn.transformer import Transformer, TransformerConfig

TRUNKS: dict[str, tuple[type[Config], type[nn.Module]]] = {
    "transformer": (TransformerConfig, Transformer),
    **{kind: (RecurrentConfig, Recurrent) for kind in ("lstm", "gru", "rnn")},
}


def build_trunk(config: dict[str, Any]) -> nn.Module:
    """A trunk from plain data. Raises UsageError for an unknown kind or key."""
    kind = config.get("kind", "transformer")
    if kind not in TRUNKS:
        raise unknown("trunk", kind, TRUNKS)
    config_class, trunk_class = TRUNKS[kind]
    return trunk_class(config_class.parse(config, f"trunk ({kind})"))
