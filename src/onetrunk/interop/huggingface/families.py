"""The families of checkpoints that can be read, by what their configuration calls them (model_type)."""

from __future__ import annotations

from dataclasses import replace

from onetrunk.interop.huggingface import decoders, encoders, towers
from onetrunk.interop.huggingface.family import Family

FAMILIES: dict[str, Family] = {
    "gpt2": decoders.GPT2,
    "llama": decoders.LLAMA,
    "mistral": decoders.MISTRAL,
    "qwen2": decoders.QWEN2,
    "qwen3": decoders.QWEN3,
    "phi3": decoders.PHI3,
    "olmo2": decoders.OLMO2,
    "smollm3": decoders.SMOLLM3,
    "gemma3_text": decoders.GEMMA3,
    "bert": encoders.BERT,
    "roberta": encoders.ROBERTA,
    "xlm-roberta": replace(encoders.ROBERTA, defaults={**encoders.ROBERTA.defaults, "vocab_size": 30522}),
    "distilbert": encoders.DISTILBERT,
    "albert": encoders.ALBERT,
    "modernbert": encoders.MODERNBERT,
    "vit": towers.VIT,
    "deit": towers.DEIT,
    "vit_mae": towers.VIT,
    "dinov2": towers.DINOV2,
    "clip_text_model": towers.CLIP_TEXT,
    "clip_vision_model": towers.CLIP_VISION,
    "siglip_text_model": towers.SIGLIP_TEXT,
    "siglip_vision_model": towers.SIGLIP_VISION,
    "chinese_clip_text_model": towers.CHINESE_CLIP_TEXT,
    "chinese_clip_vision_model": towers.CLIP_VISION,
    "whisper": towers.WHISPER,
}
# Checkpoints of several models, by what each reads: the family of each, and where in the configuration it is.
TOWERS = {
    "clip": {"text": ("clip_text_model", "text_config"), "image": ("clip_vision_model", "vision_config")},
    "chinese_clip": {
        "text": ("chinese_clip_text_model", "text_config"),
        "image": ("chinese_clip_vision_model", "vision_config"),
    },
    "siglip": {"text": ("siglip_text_model", "text_config"), "image": ("siglip_vision_model", "vision_config")},
    "gemma3": {"text": ("gemma3_text", "text_config")},
}

# Families that texts are written as, the usual ones first: the class that opens each.
WRITTEN = {
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "mistral": "MistralForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "xlm-roberta": "XLMRobertaForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
}
# Families that pictures are written as. Without its decoder, a ViT-MAE is a ViT.
PICTURES = {
    "vit": "ViTModel",
    "deit": "DeiTModel",
    "dinov2": "Dinov2Model",
    "clip_vision_model": "CLIPVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "chinese_clip_vision_model": "ChineseCLIPVisionModel",
}
