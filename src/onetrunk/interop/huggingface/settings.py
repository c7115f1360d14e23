"""A checkpoint's configuration, read by its family's table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onetrunk.core.errors import ModelFileError
from onetrunk.interop.huggingface.family import Family, Pattern, Rope
from onetrunk.interop.huggingface.unsupported import OF_MODELS, refuse_unknown, setting_names

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
GATES = {"silu": "swiglu", "gelu": "geglu", "gelu_new": "geglu_tanh", "gelu_pytorch_tanh": "geglu_tanh"}
_ROPE_KEYS = setting_names(
    """
    rope_type type rope_theta factor original_max_position_embeddings attention_factor beta_fast beta_slow mscale
    mscale_all_dim truncate short_factor long_factor low_freq_factor high_freq_factor partial_rotary_factor
    """
)


class Settings(Mapping[str, Any]):
    """What a configuration says, or means where it does not. It remembers which of its keys somebody asked for."""

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any], where: Path) -> None:
        self.config, self.where = dict(config), where
        self._all = {**defaults, **config}
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._all[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, key: object) -> bool:
        return key in self._all

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return self._all.get(key, default)

    def refuse_unread(self) -> None:
        """Raises ModelFileError for what it says and nobody asked for, but for what answers do not depend on."""
        refuse_unknown(self.where, self.config, self._read | OF_MODELS, "the model's answers do")


def trunk_settings(family: Family, s: Settings) -> dict[str, Any]:
    """Our trunk's configuration. Raises ModelFileError for what cannot be expressed, KeyError for what is not said."""
    for key, expected in family.only.items():
        if (value := s.get(key, expected)) != expected and value is not None:
            raise ModelFileError(f"Its configuration says {key}: {value!r}; only {expected!r} can be read.")
    out = {**family.fixed, **{ours: s[theirs] for ours, theirs in family.settings.items()}}
    if family.mlp_ratio:
        out["mlp_width"] = int(out["width"] * s[family.mlp_ratio])
    out["activation"] = _known(family.settings["activation"], out["activation"], family.gated)
    if family.skipped:
        out["max_positions"] -= s[family.skipped] + 1
    with_bias = {part for part in family.layer_names if "norm" not in part and biased(family, s, part)}
    few = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
    out["bias"] = "none" if not with_bias else "qkv" if with_bias <= few else "all"
    return out if family.rope is None else {**out, **_rope(family.rope, s, out["layers"])}


def biased(family: Family, s: Settings, ours: str) -> bool:
    """Has this one of ours, a map or a norm, a bias in their files?"""
    says = family.biases.get(ours, family.biased)
    return bool(s.get(says, False)) if isinstance(says, str) else says


def readout_activation(family: Family, s: Settings) -> str:
    """Of the layer before the read-out."""
    return _known(family.readout, s.get(family.readout, family.readout), gated=False)


def _known(key: str, name: Any, gated: bool) -> str:
    known = GATES if gated else ACTIVATIONS
    if name not in known:
        raise ModelFileError(f"Its configuration says {key}: {name!r}; {', '.join(known)} can be read.")
    return known[name]


def context(family: Family, s: Settings, trunk: Mapping[str, Any]) -> tuple[int, str]:
    """How many tokens of a text can be seen as its model sees them, and what its model sees of a text beyond, if that
    is more."""
    whole = trunk["max_positions"] if "max_positions" in trunk else s["max_position_embeddings"]
    window, bounds = family.window, [(whole, "")]
    if window is not None and all((size := s.get(window.key), _slides(family, s, trunk["layers"]))):
        bounds.append((size // 2 + 1 if window.halved else size, window.key))
    scaling = trunk.get("rope_scaling")
    if scaling is not None and scaling["kind"] == "divided":  # beyond, all texts are rotated in another way
        bounds.append((scaling["original"], "long_factor"))
    most, why = min(bounds)
    return most, f"{why} (texts are seen up to {most:,} tokens, not up to {whole:,})" if most < whole else ""


def _slides(family: Family, s: Settings, layers: int) -> bool:
    """Has any layer a window?"""
    types, uses = s.get("layer_types"), s.get("use_sliding_window", True)
    if types is None:
        first = s["max_window_layers"] if "max_window_layers" in family.defaults else 0
        return bool(uses) and first < layers
    if unknown := set(types) - {"full_attention", "sliding_attention"}:
        raise ModelFileError(
            f"Its configuration has layers of the types {', '.join(sorted(map(str, unknown)))} (layer_types)."
        )
    return "sliding_attention" in types[:layers]


# -- rotary positions ----------------------------------------------------------------------------------------
def _rope(rope: Rope, s: Settings, layers: int) -> dict[str, Any]:
    parameters, scaling = s.get("rope_parameters") or {}, s.get("rope_scaling") or {}
    by_type = any(isinstance(value, Mapping) for value in parameters.values())
    full = dict(parameters.get("full_attention") or {}) if by_type else dict(parameters)
    full |= {} if parameters else scaling
    out: dict[str, Any] = {"rope_theta": full.get("rope_theta", s.get(rope.key, rope.theta))}
    out["rope_scaling"] = _scaling(full, s, out["rope_theta"])
    if rope.layers is not None:
        kinds = _kinds(rope.layers, s, layers)
        out["rope_layers"] = kinds if set(kinds) != {"rotary"} else None
    if rope.local_theta is not None:
        local = dict(parameters.get("sliding_attention") or {}) if by_type else {}
        local |= scaling if not parameters and "sliding_attention" in rope.scaled else {}
        out["rope_local_theta"] = local.get("rope_theta", s.get(rope.local_key, rope.local_theta))
        if _scaling(local, s, out["rope_local_theta"]) is not None:
            raise ModelFileError("Its layers with a window have longer rotations, which are not expressed here.")
    return out


def _kinds(pattern: Pattern, s: Settings, layers: int) -> tuple[str, ...]:
    listed, n = s.get(pattern.listed), s.get(pattern.every, pattern.n)
    if listed is None:
        return tuple(pattern.nth if (i + pattern.shift) % n == 0 else pattern.others for i in range(layers))
    if len(listed) < layers or any(kind not in pattern.kinds for kind in listed):
        raise ModelFileError(f"Its configuration lists {str(listed)[:60]} for {layers} layers ({pattern.listed}).")
    return tuple(pattern.kinds[kind] for kind in listed[:layers])


def _scaling(rope: Mapping[str, Any], s: Settings, theta: float) -> dict[str, Any] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if unknown := sorted(rope.keys() - _ROPE_KEYS):
        raise ModelFileError(f"Its rotary positions have a {unknown[0]}: {rope[unknown[0]]!r}, which is not known.")
    turned = rope.get("partial_rotary_factor", s.get("partial_rotary_factor", 1.0))
    if turned not in (None, 1, 1.0):
        raise ModelFileError(f"Its configuration says partial_rotary_factor: {turned!r}; only 1.0 can be read.")
    most, before = s["max_position_embeddings"], s.get("original_max_position_embeddings")
    original = before or rope.get("original_max_position_embeddings") or most
    factor = rope.get("factor") or most / original
    if kind in ("default", "dynamic"):  # dynamic: up to `max_position_embeddings` nothing changes
        return None
    if kind == "linear":
        return {"kind": "linear", "factor": factor}
    if kind == "llama3":
        return {"kind": "llama3", "factor": factor, "low": rope["low_freq_factor"], "high": rope["high_freq_factor"],
                "original": original}  # fmt: skip
    if kind in ("longrope", "su") or (kind == "yarn" and "short_factor" in rope):  # as Phi-3 once called it
        size = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        return {"kind": "divided", "each": tuple(rope["short_factor"]), "original": original,
                "attention": rope.get("attention_factor") or size}  # fmt: skip
    if kind == "yarn":
        return {"kind": "yarn", "factor": factor, "original": original, "whole": rope.get("truncate", True),
                "low": rope.get("beta_slow") or 1, "high": rope.get("beta_fast") or 32,
                "attention": rope.get("attention_factor") or _yarn_size(factor, rope)}  # fmt: skip
    raise ModelFileError(
        f"Its rotary positions are of type {kind!r}; default, linear, dynamic, llama3, yarn and longrope can be read."
    )


def _yarn_size(factor: float, rope: Mapping[str, Any]) -> float:
    def size(times: float) -> float:
        return 0.1 * times * math.log(factor) + 1 if factor > 1 else 1.0

    one, other = rope.get("mscale"), rope.get("mscale_all_dim")
    return size(one) / size(other) if one and other else size(1)
