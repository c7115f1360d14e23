"""Builds the trunk that `kind` in the configuration names."""

from __future__ import annotations

from typing import Any

from onetrunk.core.config import Config
from onetrunk.core.errors import unknown
from onetrunk.nn.recurrent import Recurrent, RecurrentConfig
from onetrunk.nn.transformer import Transformer, TransformerConfig

Trunk = Transformer | Recurrent
TRUNKS: dict[str, tuple[type[Config], type[Trunk]]] = {
    "transformer": (TransformerConfig, Transformer),
    **{kind: (RecurrentConfig, Recurrent) for kind in ("lstm", "gru", "rnn")},
}


def build_trunk(config: dict[str, Any]) -> Trunk:
    """A trunk from plain data. Raises UsageError for an unknown kind or key."""
    kind = config.get("kind", "transformer")
    if not isinstance(kind, str) or kind not in TRUNKS:
        raise unknown("trunk", str(kind), TRUNKS)
    where = f"trunk ({kind})"
    if kind == "transformer":
        return Transformer(TransformerConfig.parse(config, where))
    return Recurrent(RecurrentConfig.parse(config, where))
