"""Families that read pictures or sounds, and what is said of pictures, as data."""

from __future__ import annotations

from dataclasses import replace

from onetrunk.interop.huggingface.decoders import QKV
from onetrunk.interop.huggingface.encoders import BERT, ENCODER_DEFAULTS, ENCODER_SETTINGS, PLAIN
from onetrunk.interop.huggingface.family import Family

_TOWER_PARTS = {
    **{f"self_attn.{x}_proj": f"self_attn.{x}_proj" for x in "qkv"},
    "self_attn.o_proj": "self_attn.out_proj",
    "input_layernorm": "layer_norm1",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
    "post_attention_layernorm": "layer_norm2",
}
_HALF = [0.5] * 3
_USUAL = {"image_mean": _HALF, "image_std": _HALF}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_CUT = {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True, "resample": 3, **_OPENAI}
CLIP_TEXT = Family(
    reads="text",
    layer="encoder.layers.{}.",
    layer_names=_TOWER_PARTS,
    other_names={
        "trunk.norm": "final_layer_norm",
        "trunk.position_embedding": "embeddings.position_embedding.weight",
        "table": "embeddings.token_embedding.weight",
    },
    settings={**ENCODER_SETTINGS, "max_positions": "max_position_embeddings"},
    fixed={**PLAIN, "positions": "learned"},
    defaults={
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    prefixes=("text_model.", ""),
    causal=True,
)
_VISION_DEFAULTS = {**ENCODER_DEFAULTS, "image_size": 224, "patch_size": 16, "num_channels": 3}
CLIP_VISION = Family(
    reads="image",
    layer="encoder.layers.{}.",
    layer_names=_TOWER_PARTS,
    other_names={
        "trunk.norm": "post_layernorm",
        "trunk.first_norm": "pre_layrnorm",
        "to_width": "embeddings.patch_embedding",
        "position_embedding": "embeddings.position_embedding.weight",
    },
    settings=ENCODER_SETTINGS,
    fixed={**PLAIN, "norm_first": True},
    defaults={**_VISION_DEFAULTS, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    prefixes=("vision_model.", ""),
    biases={"to_width": False},
    first=("embeddings.class_embedding",),
    preparation=_CUT,
)
SIGLIP_VISION = replace(
    CLIP_VISION,
    other_names={k: v for k, v in CLIP_VISION.other_names.items() if k != "trunk.first_norm"},
    fixed=PLAIN,
    defaults={**_VISION_DEFAULTS, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    biases={},
    first=(),
    preparation={"size": 224, "resample": 3, **_USUAL},
)
SIGLIP_TEXT = replace(
    CLIP_TEXT,
    defaults={
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 64,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "pad_token_id": 1,
    },
    causal=False,
    filled=True,
)
CHINESE_CLIP_TEXT = replace(
    BERT,
    other_names={k: v for k, v in BERT.other_names.items() if not k.startswith(("transform", "head", "bias"))},
    defaults={k: v for k, v in BERT.defaults.items() if k != "tie_word_embeddings"},
    prefixes=("text_model.", ""),
    readout="gelu",
)
VIT = Family(
    reads="image",
    layer="encoder.layer.{}.",
    layer_names={
        "self_attn.q_proj": "attention.attention.query",
        "self_attn.k_proj": "attention.attention.key",
        "self_attn.v_proj": "attention.attention.value",
        "self_attn.o_proj": "attention.output.dense",
        "input_layernorm": "layernorm_before",
        "mlp.up_proj": "intermediate.dense",
        "mlp.down_proj": "output.dense",
        "post_attention_layernorm": "layernorm_after",
    },
    other_names={
        "trunk.norm": "layernorm",
        "to_width": "embeddings.patch_embeddings.projection",
        "position_embedding": "embeddings.position_embeddings",
    },
    settings=ENCODER_SETTINGS,
    fixed=PLAIN,
    defaults={**_VISION_DEFAULTS, "qkv_bias": True},
    prefixes=("vit.", ""),
    biases=dict.fromkeys(QKV, "qkv_bias"),
    first=("embeddings.cls_token",),
    preparation={"size": 224, "resample": 2, **_USUAL},
)
DEIT = replace(
    VIT,
    prefixes=("deit.", ""),
    first=("embeddings.cls_token", "embeddings.distillation_token"),
    preparation={
        "size": 256,
        "crop_size": 224,
        "do_center_crop": True,
        "resample": 3,
        **_USUAL,
    },
)
DINOV2 = replace(
    VIT,
    layer_names={
        **{k: v for k, v in VIT.layer_names.items() if k.startswith("self_attn")},
        "input_layernorm": "norm1",
        "mlp.up_proj": "mlp.fc1",
        "mlp.down_proj": "mlp.fc2",
        "post_attention_layernorm": "norm2",
    },
    settings={k: v for k, v in ENCODER_SETTINGS.items() if k != "mlp_width"},
    mlp_ratio="mlp_ratio",
    defaults={
        **{k: v for k, v in _VISION_DEFAULTS.items() if k != "intermediate_size"},
        "layer_norm_eps": 1e-6,
        "patch_size": 14,
        "mlp_ratio": 4,
        "qkv_bias": True,
    },
    only={"use_swiglu_ffn": False},
    prefixes=("dinov2.", ""),
    preparation=_CUT,
    resizes=True,
    scales={"self_attn.o_proj": "layer_scale1.lambda1", "mlp.down_proj": "layer_scale2.lambda1"},
)
WHISPER = Family(
    reads="audio",
    layer="layers.{}.",
    layer_names={
        **{k: v for k, v in _TOWER_PARTS.items() if k.startswith("self_attn")},
        "input_layernorm": "self_attn_layer_norm",
        "mlp.up_proj": "fc1",
        "mlp.down_proj": "fc2",
        "post_attention_layernorm": "final_layer_norm",
    },
    other_names={"trunk.norm": "layer_norm"},
    settings={
        "width": "d_model",
        "layers": "encoder_layers",
        "heads": "encoder_attention_heads",
        "mlp_width": "encoder_ffn_dim",
        "activation": "activation_function",
    },
    fixed={**PLAIN, "eps": 1e-5},
    defaults={
        "d_model": 384,
        "encoder_layers": 4,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "activation_function": "gelu",
    },
    prefixes=("model.encoder.", "encoder."),
    biases={"self_attn.k_proj": False},
    stem=False,
)
