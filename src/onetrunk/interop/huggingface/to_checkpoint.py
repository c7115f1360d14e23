"""A text column and the trunk as a checkpoint of a family: the table of families, read from ours to theirs.

A model that came from a checkpoint goes back as what it came as, where it still fits; others become a Qwen3 or a Llama,
whose block ours is. One vector tells our column and its role apart from others, and is added to every embedding: it
goes where the family keeps such a one, into its positions, or into its table.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onetrunk.columns.families.tokens.module import TokenModule
from onetrunk.columns.text.encoder import TextEncoder
from onetrunk.core.content import Role
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.interop.huggingface.families import FAMILIES, WRITTEN
from onetrunk.interop.huggingface.family import Family, Rope
from onetrunk.interop.huggingface.settings import ACTIVATIONS, Settings, biased, readout_activation
from onetrunk.interop.huggingface.trunk_writer import TrunkWriter, Written, needs, unfit
from onetrunk.nn.attention import RopeScaling
from onetrunk.nn.transformer import Transformer

_OUTSIDE = {"head", "bias", "transform.0", "transform.2"}  # of what the family's prefix names


def as_checkpoint(model: Model, ask: str, among: Collection[str] = tuple(WRITTEN)) -> Written:
    """Of one of the families `among`. Raises UsageError where the column or the trunk is not what any of them holds."""
    encoder, trunk = _checked(model, ask)
    fills = encoder.token_head.does == "filling"
    came = [stage.get("family") for stage in model.provenance.get("stages", []) if stage.get("stage") == "import"]
    usual = WRITTEN if trunk.config.qk_norm else ["llama", *WRITTEN]  # a Qwen3 in all but its norms
    kinds = [kind for kind in [*came, *usual] if kind in WRITTEN and FAMILIES[kind].causal != fills and kind in among]
    reason: str | None = None
    for kind in kinds:
        misfit = unfit(FAMILIES[kind], trunk) or _unfit_readout(FAMILIES[kind], encoder, trunk)
        if misfit is None:
            return _Writer(kind, model, ask, encoder, trunk).written()
        reason = reason or misfit
    raise UsageError(reason or "")


def _checked(model: Model, ask: str) -> tuple[TextEncoder, Transformer]:
    module, encoder, trunk = model.module(ask), model.encoder(ask), model.network.trunk
    if not isinstance(encoder, TextEncoder) or not isinstance(module, TokenModule):
        raise UsageError(f"{ask!r} is neither text nor pictures: nothing else is written as a Hugging Face checkpoint.")
    if encoder.options.bigrams:
        raise UsageError(f"{ask!r} also embeds pairs of tokens (bigrams), which the Hugging Face format does not know.")
    if encoder.token_head.does == "nothing":
        raise UsageError(f"{ask!r} came without a read-out: it neither writes nor fills words in. --to onnx takes it.")
    if not isinstance(trunk, Transformer):
        raise UsageError(
            f"This trunk has kind {trunk.config.kind!r}; the Hugging Face format that is written needs 'transformer'."
        )
    if module.missing and not trunk.config.entry_width:
        raise UsageError(f"The tokens of {ask!r} have narrower vectors (embedding) than the Hugging Face format knows.")
    return encoder, trunk


def _unfit_readout(family: Family, encoder: TextEncoder, trunk: Transformer) -> str | None:
    head = encoder.token_head
    layer = "transform.0" in family.other_names
    if bool(head.transform) != layer or (head.bias and "bias" not in family.other_names):
        return "Its read-out is another one than the Hugging Face format that is written has."
    if layer and head.transform != trunk.config.eps:
        return f"The norm of its read-out has eps {head.transform}; that of the trunk, {trunk.config.eps}, is written."
    if family.tokens_scaled and head.tied:
        return "Its embedding is its read-out, which the Hugging Face format that is written scales apart."
    return None


class _Writer(TrunkWriter):
    """Makes one checkpoint."""

    def __init__(self, kind: str, model: Model, ask: str, encoder: TextEncoder, trunk: Transformer) -> None:
        role = Role.MASKED if encoder.token_head.does == "filling" else Role.ASKED
        super().__init__(kind, model, ask, role, trunk)
        self.encoder = encoder
        self.pad = self._token("<pad>", "[PAD]", "<|endoftext|>")
        # RoBERTa's positions begin behind that of padding.
        self.skipped = 0 if not self.family.skipped else (1 if self.pad is None else self.pad) + 1

    def written(self) -> Written:
        top, tied = self._top()
        config = self._config(tied)
        settings = Settings(config, self.family.defaults, Path("config.json"))
        head = self.encoder.token_head
        if bool(head.transform) and (activation := readout_activation(self.family, settings)) != head.activation:
            raise UsageError(needs("a read-out with the activation", head.activation, activation))
        out: dict[str, Tensor] = {}
        for (ours, kind), tensor in top.items():
            if kind != "bias" or biased(self.family, settings, ours):
                names = self.family.other_names[ours]
                each = (names,) if isinstance(names, str) else names[-1:] if tied else names
                prefix = "" if ours in _OUTSIDE else self.family.prefixes[0]
                out |= {f"{prefix}{name}" + (f".{kind}" if kind else ""): tensor for name in each}
        for i in range(self.groups() or self.config.layers):
            out |= self.layer(i, settings)
        return Written(self.kind, config, {name: tensor.contiguous() for name, tensor in out.items()})

    # -- tensors -----------------------------------------------------------------------------------------------------
    def _top(self) -> tuple[dict[tuple[str, str], Tensor], bool]:
        """Those outside of the layers, by our names and whether they are weights or biases; is the embedding the
        read-out too?"""
        family, entry = self.family, self.config.entry_width or self.config.width
        out: dict[tuple[str, str], Tensor] = {}
        for ours in family.other_names:
            state, name = (self.trunk, ours[6:]) if ours.startswith("trunk.") else (self.module, ours)
            out |= {(ours, kind): self.norm(ours, state[f"{name}.{kind}"]) for kind in ("weight", "bias")
                    if f"{name}.{kind}" in state}  # fmt: skip
        table, marker = self.module["table"], self.marker[:entry]
        head = self.module.get("head", table)
        if ("trunk.position_embedding") in family.other_names:
            positions = self.trunk["position_embedding"][:, :entry]
            positions = positions if "types" in family.other_names else positions + marker
            out["trunk.position_embedding", ""] = F.pad(positions, (0, 0, self.skipped, 0))
        elif bool(marker.any()):
            table = table + marker
        if "types" in family.other_names:
            rows = family.defaults["type_vocab_size"]
            out["types", ""] = torch.cat([marker[None], torch.zeros(rows - 1, entry)])
        if family.tokens_scaled:
            table = table / self.config.width**0.5
        out["table", ""] = table
        tied = head.shape == table.shape and bool(torch.equal(head, table))
        if not tied:
            out["head", ""] = head
        if "bias" in family.other_names and "bias" in self.module:
            out["bias", ""] = self.module["bias"]
        return out, tied

    # -- configuration -----------------------------------------------------------------------------------------------
    def _config(self, tied: bool) -> dict[str, Any]:
        family, special, c = self.family, self.encoder.special, self.config
        sizes = {**self.sizes, "activation": self.activation(),
                 "max_positions": c.max_positions + self.skipped}  # fmt: skip
        length = self.encoder.options.length
        config = {
            "architectures": [WRITTEN[self.kind]],
            "model_type": self.kind,
            **{theirs: sizes[ours] for ours, theirs in family.settings.items()},
            **family.only,
            "vocab_size": self.encoder.size,
            "tie_word_embeddings": tied,
            "bos_token_id": special.start,
            "eos_token_id": [special.end, *special.stops] if special.stops else special.end,
            "pad_token_id": self.skipped - 1 if self.skipped else special.end if self.pad is None else self.pad,
            "dtype": "float32",
            "torch_dtype": "float32",
        }
        config |= self.biases()
        if "max_positions" not in family.settings:
            config["max_position_embeddings"] = length
        if "types" in family.other_names:
            config["type_vocab_size"] = family.defaults["type_vocab_size"]
        if family.query_scale:
            config[family.query_scale] = self.sizes["head_width"]  # queries are scaled as everywhere
        if family.groups:
            config[family.groups] = self.groups()
        if family.readout in family.defaults and family.readout not in config:
            config[family.readout] = next(k for k, v in ACTIVATIONS.items() if v == self.encoder.token_head.activation)
        if (window := family.window) is not None:
            wide = 2 * length if window.halved else length
            config[window.key] = wide if window.halved or c.rope_layers is not None else None
            config |= {"use_sliding_window": False} if "use_sliding_window" in family.defaults else {}
        return config if family.rope is None else {**config, **self._rope(family.rope)}

    def _rope(self, rope: Rope) -> dict[str, Any]:
        c = self.config
        full: dict[str, Any] = {"rope_type": "default", "rope_theta": c.rope_theta, **_scaling(c.rope_scaling)}
        out: dict[str, Any] = {"rope_parameters": full}
        if rope.layers is not None:
            kinds = {ours: theirs for theirs, ours in rope.layers.kinds.items()}
            out[rope.layers.listed] = [kinds[kind] for kind in c.rope_layers or ("rotary",) * c.layers]
        if rope.local_theta is not None:
            local = {"rope_type": "default", "rope_theta": c.rope_local_theta}
            return {**out, "rope_parameters": {"full_attention": full, "sliding_attention": local}}
        scaling = {k: v for k, v in full.items() if k != "rope_theta"}  # as older programs read it
        return {**out, rope.key: c.rope_theta, "rope_scaling": None if c.rope_scaling is None else scaling}

    def _token(self, *names: str) -> int | None:
        """The number of the first of these that the tokenizer has."""
        there = (self.encoder.tokenizer.token_to_id(name) for name in names)
        return next((i for i in there if i is not None), None)


def _scaling(s: RopeScaling | None) -> dict[str, Any]:
    if s is None:
        return {}
    if s.kind == "linear":
        return {"rope_type": "linear", "factor": s.factor}
    original = {"factor": s.factor, "original_max_position_embeddings": s.original}
    if s.kind == "llama3":
        return {"rope_type": "llama3", "low_freq_factor": s.low, "high_freq_factor": s.high, **original}
    if s.kind == "yarn":
        return {"rope_type": "yarn", "beta_slow": s.low, "beta_fast": s.high, "truncate": s.whole,
                "attention_factor": s.attention, **original}  # fmt: skip
    each = list(s.each or ())
    return {"rope_type": "longrope", "short_factor": each, "long_factor": each, "attention_factor": s.attention,
            **original}  # fmt: skip
