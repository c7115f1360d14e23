"""Families that read text and fill words in, as data."""

from __future__ import annotations

from dataclasses import replace

from onetrunk.interop.huggingface.decoders import ATTENTION_BIAS, MLP_BIAS, QKV, TYPES
from onetrunk.interop.huggingface.family import Family, Pattern, Rope, Window

ENCODER_SETTINGS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "activation": "hidden_act",
    "eps": "layer_norm_eps",
}
ENCODER_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
PLAIN = {"norm": "layer", "qk_norm": False, "positions": "none"}
_POST = {**PLAIN, "norm_place": "post", "norm_first": True, "positions": "learned"}
BERT = Family(
    reads="text",
    layer="encoder.layer.{}.",
    layer_names={
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.o_proj": "attention.output.dense",
        "input_layernorm": "attention.output.LayerNorm",
        "mlp.up_proj": "intermediate.dense",
        "mlp.down_proj": "output.dense",
        "post_attention_layernorm": "output.LayerNorm",
    },
    other_names={
        "table": "embeddings.word_embeddings.weight",
        "types": "embeddings.token_type_embeddings.weight",
        "trunk.position_embedding": "embeddings.position_embeddings.weight",
        "trunk.first_norm": "embeddings.LayerNorm",
        "transform.0": "cls.predictions.transform.dense",
        "transform.2": "cls.predictions.transform.LayerNorm",
        "head": "cls.predictions.decoder.weight",
        "bias": ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    },
    settings={**ENCODER_SETTINGS, "max_positions": "max_position_embeddings"},
    fixed=_POST,
    defaults={
        **ENCODER_DEFAULTS,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    },
    only={"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"},
    prefixes=("bert.", ""),
    readout="hidden_act",
)
ROBERTA = replace(
    BERT,
    other_names={
        **{k: v for k, v in BERT.other_names.items() if k not in ("transform.0", "transform.2", "head", "bias")},
        "transform.0": "lm_head.dense",
        "transform.2": "lm_head.layer_norm",
        "head": "lm_head.decoder.weight",
        "bias": ("lm_head.decoder.bias", "lm_head.bias"),
    },
    defaults={**BERT.defaults, "vocab_size": 50265, "pad_token_id": 1},
    prefixes=("roberta.", ""),
    skipped="pad_token_id",
    readout="gelu",
)
DISTILBERT = replace(
    BERT,
    layer="transformer.layer.{}.",
    layer_names={
        **{f"self_attn.{x}_proj": f"attention.{x}_lin" for x in "qkv"},
        "self_attn.o_proj": "attention.out_lin",
        "input_layernorm": "sa_layer_norm",
        "mlp.up_proj": "ffn.lin1",
        "mlp.down_proj": "ffn.lin2",
        "post_attention_layernorm": "output_layer_norm",
    },
    other_names={
        **{k: BERT.other_names[k] for k in ("table", "trunk.position_embedding", "trunk.first_norm")},
        "transform.0": "vocab_transform",
        "transform.2": "vocab_layer_norm",
        "head": "vocab_projector.weight",
        "bias": "vocab_projector.bias",
    },
    settings={
        "width": "dim",
        "layers": "n_layers",
        "heads": "n_heads",
        "mlp_width": "hidden_dim",
        "activation": "activation",
        "max_positions": "max_position_embeddings",
    },
    fixed={**_POST, "eps": 1e-12},
    defaults={
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "n_layers": 6,
        "n_heads": 12,
        "dim": 768,
        "hidden_dim": 3072,
        "activation": "gelu",
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    },
    only={},
    prefixes=("distilbert.", ""),
    readout="activation",
)
ALBERT = replace(
    BERT,
    layer="encoder.albert_layer_groups.{}.albert_layers.0.",
    layer_names={
        **{f"self_attn.{x[0]}_proj": f"attention.{x}" for x in ("query", "key", "value")},
        "self_attn.o_proj": "attention.dense",
        "input_layernorm": "attention.LayerNorm",
        "mlp.up_proj": "ffn",
        "mlp.down_proj": "ffn_output",
        "post_attention_layernorm": "full_layer_layer_norm",
    },
    other_names={
        **{k: v for k, v in BERT.other_names.items() if k.startswith(("trunk", "table", "types"))},
        "trunk.entry_proj": "encoder.embedding_hidden_mapping_in",
        "transform.0": "predictions.dense",
        "transform.2": "predictions.LayerNorm",
        "head": "predictions.decoder.weight",
        "bias": ("predictions.decoder.bias", "predictions.bias"),
    },
    settings={**BERT.settings, "entry_width": "embedding_size"},
    defaults={
        **BERT.defaults,
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_hidden_groups": 1,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "hidden_act": "gelu_new",
    },
    only={"inner_group_num": 1, "position_embedding_type": "absolute"},
    prefixes=("albert.", ""),
    groups="num_hidden_groups",
)
MODERNBERT = Family(
    reads="text",
    layer="layers.{}.",
    layer_names={
        **dict.fromkeys(QKV, "attn.Wqkv"),
        "self_attn.o_proj": "attn.Wo",
        **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), "mlp.Wi"),
        "mlp.down_proj": "mlp.Wo",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "mlp_norm",
    },
    other_names={
        "table": "embeddings.tok_embeddings.weight",
        "trunk.first_norm": "embeddings.norm",
        "trunk.norm": "final_norm",
        "transform.0": "head.dense",
        "transform.2": "head.norm",
        "head": "decoder.weight",
        "bias": "decoder.bias",
    },
    settings={**ENCODER_SETTINGS, "activation": "hidden_activation", "eps": "norm_eps"},
    fixed={"norm": "layer", "norm_first": True, "bare_first": True, "qk_norm": False},
    defaults={
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "hidden_activation": "gelu",
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
        "local_attention": 128,
        "classifier_activation": "gelu",
        "decoder_bias": True,
        "tie_word_embeddings": True,
    },
    prefixes=("model.", ""),
    gated=True,
    rope=Rope(
        theta=160_000.0,
        key="global_rope_theta",
        local_theta=10_000.0,
        local_key="local_rope_theta",
        scaled=("full_attention", "sliding_attention"),
        layers=Pattern("layer_types", TYPES, "global_attn_every_n_layers", 3, 0, "rotary", "local"),
    ),
    window=Window("local_attention", halved=True),
    biases={
        **ATTENTION_BIAS,
        **MLP_BIAS,
        **dict.fromkeys(
            ("input_layernorm", "post_attention_layernorm", "trunk.norm", "trunk.first_norm", "transform.2"),
            "norm_bias",
        ),
        "transform.0": "classifier_bias",
        "bias": "decoder_bias",
    },
    readout="classifier_activation",
)
