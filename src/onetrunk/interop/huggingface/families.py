"""The families of checkpoints that can be read: how the configuration and tensors' names of each translate to ours.

A family is data. Its tensors' names are a prefix, a layer's place, and one name for each of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.errors import ModelFileError

Settings = Mapping[str, Any]

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu"}


@dataclass(frozen=True)
class Family:
    """`layer` holds {} for the number; `modules` and `top` are our names (of modules, or whole) to theirs."""

    reads: str  # what kind of column its trunk reads
    trunk: Callable[[Settings], dict[str, Any]]  # their configuration to our trunk's
    layer: str
    modules: Mapping[str, str]
    top: Mapping[str, str]
    prefixes: tuple[str, ...] = ("",)  # in front of all names; the first that fits
    causal: bool = False
    unbiased: tuple[str, ...] = ()  # of ours, those without a bias in their files: theirs is zero
    tied: bool = False  # is one table embedding and read-out, where the configuration does not say?
    transposed: bool = False  # are the layers' matrices [in, out]?
    stem: bool = True  # is what embeds its values expressed here too?
    first: tuple[str, ...] = ()  # learnt vectors before the first patch
    preparation: Mapping[str, Any] = field(default_factory=dict)  # of pictures, where their files do not say


def _activation(config: Settings, key: str = "hidden_act") -> str:
    name = config.get(key, "gelu")
    if name not in _ACTIVATIONS:
        raise ModelFileError(f"Its activation {name!r} is not known; known are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def _refuse(config: Settings, **expected: Any) -> None:
    """What would change the answers and is not expressed here."""
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ModelFileError(f"Its configuration says {key}: {config[key]!r}; only {value!r} can be read.")


# -- decoders ------------------------------------------------------------------------------------------------
def _gpt2(config: Settings) -> dict[str, Any]:
    _refuse(config, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    return {
        "width": config["n_embd"],
        "layers": config["n_layer"],
        "heads": config["n_head"],
        "mlp_width": config.get("n_inner") or 4 * config["n_embd"],
        "activation": _activation(config, "activation_function"),
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "norm": "layer",
        "qk_norm": False,
        "bias": "all",
        "positions": "learned",
        "max_positions": config["n_positions"],
    }


def _llama(config: Settings) -> dict[str, Any]:
    _refuse(config, hidden_act="silu", pretraining_tp=1, partial_rotary_factor=1.0)
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    all_biased = config.get("attention_bias", False) or config.get("mlp_bias", False)
    return {
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "kv_heads": config.get("num_key_value_heads"),
        "head_width": config.get("head_dim"),
        "mlp_width": config["intermediate_size"],
        "eps": config.get("rms_norm_eps", 1e-6),
        "rope_theta": rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        "rope_scaling": _rope_scaling(rope),
        "qk_norm": False,
        "bias": "all" if all_biased else "none",
    }


def _rope_scaling(rope: Settings) -> dict[str, Any] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelFileError(f"Its rotary positions are of type {kind!r}; default and llama3 can be read.")
    return {
        "factor": rope["factor"],
        "low": rope["low_freq_factor"],
        "high": rope["high_freq_factor"],
        "original": rope["original_max_position_embeddings"],
    }


def _qwen2(config: Settings) -> dict[str, Any]:
    return {**_llama(config), "bias": "qkv"}


def _qwen3(config: Settings) -> dict[str, Any]:
    return {**_llama(config), "qk_norm": True}


_LLAMA_PARTS = {
    **{f"self_attn.{x}": f"self_attn.{x}" for x in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")},
    **{f"mlp.{x}": f"mlp.{x}" for x in ("gate_proj", "up_proj", "down_proj")},
    **{x: x for x in ("input_layernorm", "post_attention_layernorm")},
}


def _decoder(trunk: Callable[[Settings], dict[str, Any]]) -> Family:
    return Family(
        "text",
        trunk,
        "layers.{}.",
        _LLAMA_PARTS,
        {"trunk.norm": "norm", "table": "embed_tokens.weight", "head": "lm_head.weight"},
        ("model.",),
        causal=True,
        unbiased=("o_proj", "gate_proj", "up_proj", "down_proj"),
    )


_GPT2 = Family(
    "text",
    _gpt2,
    "h.{}.",
    {
        # One matrix holds queries, keys and values; all matrices are [in, out].
        "self_attn.q_proj": "attn.c_attn",
        "self_attn.k_proj": "attn.c_attn",
        "self_attn.v_proj": "attn.c_attn",
        "self_attn.o_proj": "attn.c_proj",
        "mlp.up_proj": "mlp.c_fc",
        "mlp.down_proj": "mlp.c_proj",
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
    },
    {"trunk.norm": "ln_f", "trunk.position_embedding": "wpe.weight", "table": "wte.weight", "head": "lm_head.weight"},
    ("transformer.", ""),
    causal=True,
    tied=True,
    transposed=True,
)


# -- encoders ------------------------------------------------------------------------------------------------
def _encoder(config: Settings) -> dict[str, Any]:
    """What BERT, ViT and CLIP say alike."""
    return {
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp_width": config["intermediate_size"],
        "activation": _activation(config),
        "norm": "layer",
        "qk_norm": False,
        "bias": "all",
        "positions": "none",
    }


def _bert(config: Settings) -> dict[str, Any]:
    _refuse(config, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    return {
        **_encoder(config),
        "eps": config.get("layer_norm_eps", 1e-12),
        "norm_place": "post",
        "norm_first": True,
        "positions": "learned",
        "max_positions": config["max_position_embeddings"],
    }


def _roberta(config: Settings) -> dict[str, Any]:
    """Its first positions, up to that of padding, are never used."""
    skipped = config.get("pad_token_id", 1) + 1
    return {**_bert(config), "max_positions": config["max_position_embeddings"] - skipped}


def _vit(config: Settings) -> dict[str, Any]:
    return {**_encoder(config), "eps": config.get("layer_norm_eps", 1e-12)}


def _clip_vision(config: Settings) -> dict[str, Any]:
    act = {"hidden_act": config.get("hidden_act", "quick_gelu")}
    return {**_encoder({**config, **act}), "eps": config.get("layer_norm_eps", 1e-5), "norm_first": True}


def _clip_text(config: Settings) -> dict[str, Any]:
    most = config["max_position_embeddings"]
    return {**_clip_vision(config), "norm_first": False, "positions": "learned", "max_positions": most}


def _whisper(config: Settings) -> dict[str, Any]:
    return {
        **_encoder(
            {
                "hidden_size": config["d_model"],
                "num_hidden_layers": config["encoder_layers"],
                "num_attention_heads": config["encoder_attention_heads"],
                "intermediate_size": config["encoder_ffn_dim"],
                "hidden_act": config.get("activation_function", "gelu"),
            }
        ),
        "eps": 1e-5,
    }


_BERT_PARTS = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.o_proj": "attention.output.dense",
    "input_layernorm": "attention.output.LayerNorm",
    "mlp.up_proj": "intermediate.dense",
    "mlp.down_proj": "output.dense",
    "post_attention_layernorm": "output.LayerNorm",
}


def _masked(trunk: Callable[[Settings], dict[str, Any]], prefix: str, readout: Mapping[str, str]) -> Family:
    embeddings = {
        "table": "embeddings.word_embeddings.weight",
        "types": "embeddings.token_type_embeddings.weight",
        "trunk.position_embedding": "embeddings.position_embeddings.weight",
        "trunk.first_norm": "embeddings.LayerNorm",
    }
    return Family("text", trunk, "encoder.layer.{}.", _BERT_PARTS, {**embeddings, **readout}, (prefix, ""))


_BERT_READOUT = {
    "transform.0": "cls.predictions.transform.dense",
    "transform.2": "cls.predictions.transform.LayerNorm",
    "bias": "cls.predictions.bias",
}
_ROBERTA_READOUT = {"transform.0": "lm_head.dense", "transform.2": "lm_head.layer_norm", "bias": "lm_head.bias"}


def _patches(prefix: str, first: tuple[str, ...], side: int) -> Family:
    """ViT and DeiT."""
    modules = {
        "self_attn.q_proj": "attention.attention.query",
        "self_attn.k_proj": "attention.attention.key",
        "self_attn.v_proj": "attention.attention.value",
        "self_attn.o_proj": "attention.output.dense",
        "input_layernorm": "layernorm_before",
        "mlp.up_proj": "intermediate.dense",
        "mlp.down_proj": "output.dense",
        "post_attention_layernorm": "layernorm_after",
    }
    top = {
        "trunk.norm": "layernorm",
        "to_width": "embeddings.patch_embeddings.projection",
        "position_embedding": "embeddings.position_embeddings",
    }
    prepared = {"size": side, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Family(
        "image",
        _vit,
        "encoder.layer.{}.",
        modules,
        top,
        (prefix, ""),
        unbiased=("q_proj", "k_proj", "v_proj"),
        first=first,
        preparation=prepared,
    )


_TOWER_PARTS = {
    **{f"self_attn.{x}_proj": f"self_attn.{x}_proj" for x in "qkv"},
    "self_attn.o_proj": "self_attn.out_proj",
    "input_layernorm": "layer_norm1",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
    "post_attention_layernorm": "layer_norm2",
}
_CLIP_TEXT = Family(
    "text",
    _clip_text,
    "encoder.layers.{}.",
    _TOWER_PARTS,
    {
        "trunk.norm": "final_layer_norm",
        "trunk.position_embedding": "embeddings.position_embedding.weight",
        "table": "embeddings.token_embedding.weight",
    },
    ("text_model.",),
    causal=True,
)
_CLIP_VISION = Family(
    "image",
    _clip_vision,
    "encoder.layers.{}.",
    _TOWER_PARTS,
    {
        "trunk.norm": "post_layernorm",
        "trunk.first_norm": "pre_layrnorm",
        "to_width": "embeddings.patch_embedding",
        "position_embedding": "embeddings.position_embedding.weight",
    },
    ("vision_model.",),
    unbiased=("to_width",),
    first=("embeddings.class_embedding",),
    preparation={
        "size": {"shortest_edge": 224},
        "crop_size": 224,
        "do_center_crop": True,
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
)
_WHISPER = Family(
    "audio",
    _whisper,
    "layers.{}.",
    {
        **{k: v for k, v in _TOWER_PARTS.items() if k.startswith("self_attn")},
        "input_layernorm": "self_attn_layer_norm",
        "mlp.up_proj": "fc1",
        "mlp.down_proj": "fc2",
        "post_attention_layernorm": "final_layer_norm",
    },
    {"trunk.norm": "layer_norm"},
    ("model.encoder.", "encoder."),
    unbiased=("k_proj",),
    stem=False,
)

FAMILIES: dict[str, Family] = {
    "gpt2": _GPT2,
    "llama": _decoder(_llama),
    "mistral": _decoder(_llama),
    "qwen2": _decoder(_qwen2),
    "qwen3": _decoder(_qwen3),
    "bert": _masked(_bert, "bert.", _BERT_READOUT),
    "roberta": _masked(_roberta, "roberta.", _ROBERTA_READOUT),
    "vit": _patches("vit.", ("embeddings.cls_token",), 224),
    "deit": _patches("deit.", ("embeddings.cls_token", "embeddings.distillation_token"), 224),
    "clip_text_model": _CLIP_TEXT,
    "clip_vision_model": _CLIP_VISION,
    "whisper": _WHISPER,
}
TOWERS = {"clip": {"text": ("clip_text_model", "text_config"), "image": ("clip_vision_model", "vision_config")}}
