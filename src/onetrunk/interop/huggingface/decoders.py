"""Families that write text, as data."""

from __future__ import annotations

from dataclasses import replace

from onetrunk.interop.huggingface.family import Family, Pattern, Rope, Window

_DECODER_SETTINGS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "mlp_width": "intermediate_size",
    "activation": "hidden_act",
    "head_width": "head_dim",
    "eps": "rms_norm_eps",
}
_DECODER_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
_ATTENTION = {f"self_attn.{x}_proj": f"self_attn.{x}_proj" for x in "qkvo"}
_QK_NORMS = {f"self_attn.{x}_norm": f"self_attn.{x}_norm" for x in "qk"}
_MLP = {f"mlp.{x}_proj": f"mlp.{x}_proj" for x in ("gate", "up", "down")}
_QKVO = tuple(f"self_attn.{x}_proj" for x in "qkvo")
QKV = _QKVO[:3]
ATTENTION_BIAS: dict[str, bool | str] = dict.fromkeys(_QKVO, "attention_bias")
MLP_BIAS: dict[str, bool | str] = dict.fromkeys(_MLP, "mlp_bias")

LLAMA = Family(
    reads="text",
    layer="layers.{}.",
    layer_names={**_ATTENTION, **_MLP, **{x: x for x in ("input_layernorm", "post_attention_layernorm")}},
    other_names={"trunk.norm": "norm", "table": "embed_tokens.weight", "head": "lm_head.weight"},
    settings=_DECODER_SETTINGS,
    fixed={"qk_norm": False},
    defaults=_DECODER_DEFAULTS,
    prefixes=("model.", ""),
    causal=True,
    gated=True,
    rope=Rope(),
    biased=False,
    biases={**ATTENTION_BIAS, **MLP_BIAS},
)
_QWEN_DEFAULTS = {
    **_DECODER_DEFAULTS,
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
_SLIDES = Window("sliding_window")
QWEN2 = replace(
    LLAMA,
    defaults=_QWEN_DEFAULTS,
    biases=dict.fromkeys(QKV, True),
    window=_SLIDES,
)
QWEN3 = replace(
    LLAMA,
    layer_names={**LLAMA.layer_names, **_QK_NORMS},
    fixed={"qk_norm": True},
    defaults={**_QWEN_DEFAULTS, "head_dim": 128},
    biases=ATTENTION_BIAS,
    window=_SLIDES,
)
MISTRAL = replace(
    LLAMA,
    defaults={
        **_DECODER_DEFAULTS,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    biases={},
    window=_SLIDES,
)
PHI3 = replace(
    LLAMA,
    layer_names={
        **dict.fromkeys(QKV, "self_attn.qkv_proj"),
        "self_attn.o_proj": "self_attn.o_proj",
        **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), "mlp.gate_up_proj"),
        "mlp.down_proj": "mlp.down_proj",
        **{x: x for x in ("input_layernorm", "post_attention_layernorm")},
    },
    defaults={
        **_DECODER_DEFAULTS,
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "sliding_window": None,
    },
    biases={},
    window=_SLIDES,
)
OLMO2 = replace(
    LLAMA,
    layer_names={
        **_ATTENTION,
        **_QK_NORMS,
        **_MLP,
        "input_layernorm": "post_attention_layernorm",
        "post_attention_layernorm": "post_feedforward_layernorm",
    },
    fixed={"qk_norm": True, "qk_norm_whole": True, "norm_place": "output"},
    defaults={
        **_DECODER_DEFAULTS,
        "vocab_size": 50304,
        "rms_norm_eps": 1e-5,
    },
    biases=ATTENTION_BIAS,
)
SMOLLM3 = replace(
    LLAMA,
    defaults={
        **_DECODER_DEFAULTS,
        "vocab_size": 128256,
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "sliding_window": None,
        "tie_word_embeddings": True,
    },
    rope=Rope(
        theta=2_000_000.0,
        layers=Pattern("no_rope_layers", {1: "rotary", 0: "none"}, "no_rope_layer_interval", 4, 1, "none", "rotary"),
    ),
    window=_SLIDES,
)
TYPES = {"full_attention": "rotary", "sliding_attention": "local"}
GEMMA3 = replace(
    LLAMA,
    layer_names={
        **_ATTENTION,
        **_QK_NORMS,
        **_MLP,
        "input_layernorm": "input_layernorm",
        "attention_output_norm": "post_attention_layernorm",
        "post_attention_layernorm": "pre_feedforward_layernorm",
        "mlp_output_norm": "post_feedforward_layernorm",
    },
    settings={**_DECODER_SETTINGS, "activation": "hidden_activation"},
    fixed={"qk_norm": True, "norm_place": "both"},
    defaults={
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
    },
    only={"final_logit_softcapping": None, "attn_logit_softcapping": None, "use_bidirectional_attention": False},
    # Alone, and as the language model of one that also reads pictures, in the old and the new way.
    prefixes=("model.", "language_model.model.", "model.language_model.", ""),
    rope=Rope(
        theta=1_000_000.0,
        local_theta=10_000.0,
        local_key="rope_local_base_freq",
        layers=Pattern("layer_types", TYPES, "sliding_window_pattern", 6, 1, "rotary", "local"),
    ),
    biases=ATTENTION_BIAS,
    window=_SLIDES,
    norms_from_one=True,
    tokens_scaled=True,
    query_scale="query_pre_attn_scalar",
)
GPT2 = Family(
    reads="text",
    layer="h.{}.",
    layer_names={
        **dict.fromkeys(QKV, "attn.c_attn"),
        "self_attn.o_proj": "attn.c_proj",
        "mlp.up_proj": "mlp.c_fc",
        "mlp.down_proj": "mlp.c_proj",
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
    },
    other_names={
        "trunk.norm": "ln_f",
        "trunk.position_embedding": "wpe.weight",
        "table": "wte.weight",
        "head": "lm_head.weight",
    },
    settings={
        "width": "n_embd",
        "layers": "n_layer",
        "heads": "n_head",
        "mlp_width": "n_inner",
        "activation": "activation_function",
        "eps": "layer_norm_epsilon",
        "max_positions": "n_positions",
    },
    fixed={"norm": "layer", "qk_norm": False, "positions": "learned"},
    defaults={
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    only={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    prefixes=("transformer.", ""),
    causal=True,
    transposed=True,
)
