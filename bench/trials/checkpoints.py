"""Tiny random checkpoints of every family, written by transformers, with tokenizers and image processors."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "The room was clean, and the staff friendly.",
    "a small boat on a wide sea",
    "房间很干净，服务员态度也好。",
    "Never again: noise all night!",
]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
PICTURES = ("vit", "deit", "vit_mae", "dinov2", "siglip_vision", "clip_vision")
WORD_PIECES = ("bert", "untied", "distilbert", "albert", "modernbert", "chinese_clip")
GROUPED = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}


def byte_level(specials: list[str], template: str | None = None) -> Tokenizer:
    """A byte-level BPE learnt from `TEXTS`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    if template:
        named = [(token, tokenizer.token_to_id(token)) for token in specials]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    return tokenizer


def word_pieces(folder: Path) -> Any:
    """A Chinese and English WordPiece, as vocab.txt."""
    pieces = ["the", "room", "was", "clean", ",", "and", "staff", "friend", "##ly", ".", "a", "small", "boat", "on"]
    pieces += ["##a", "##s", "##i", "sea", "wide", "never", "again", ":", "!", "noise", "all", "night"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *"房间很干净服务员态度也好，。"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)) + "\n", encoding="utf-8")
    return hf.BertTokenizerFast(vocab={token: i for i, token in enumerate(dict.fromkeys(vocabulary))})


def _unigram() -> Any:
    """As XLM-R's: a unigram model with its own normaliser, learnt from `TEXTS`."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    named = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=named, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        mask_token="<mask>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip


def _canonical() -> Any:
    """As SigLIP's: small letters without punctuation, and padding that ends a text too."""
    tokenizer = Tokenizer(models.Unigram())
    marks = "[" + re.escape(string.punctuation) + "]"
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(marks), ""), normalizers.Replace(Regex(r"\s+"), " "),
         normalizers.Strip()]
    )  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )


def _tokenizer(kind: str, folder: Path) -> Any:
    if kind == "siglip":
        return _canonical()
    if kind in WORD_PIECES:
        return word_pieces(folder)
    if kind == "xlm-roberta":
        return _unigram()
    if kind in ("roberta", "clip"):
        ends = ("<s>", "</s>") if kind == "roberta" else ("<|startoftext|>", "<|endoftext|>")
        specials = [ends[0], "<pad>", ends[1], "<unk>", "<mask>"]
        tokenizer = byte_level(specials, f"{ends[0]} $A {ends[1]}")
        return hf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=ends[0], eos_token=ends[1], cls_token=ends[0], sep_token=ends[1],
            mask_token="<mask>", pad_token="<pad>", unk_token="<unk>",
        )  # fmt: skip
    if kind in ("llama", "mistral", "linear", "phi3", "olmo2", "smollm3", "gemma3"):
        tokenizer = byte_level(["<unk>", "<s>", "</s>"], "<s> $A")
        return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    return hf.PreTrainedTokenizerFast(tokenizer_object=byte_level(["<|endoftext|>"]), eos_token="<|endoftext|>")


def _model(kind: str, rows: int) -> Any:
    if kind == "gpt2":
        return hf.GPT2LMHeadModel(
            hf.GPT2Config(
                vocab_size=rows, n_positions=48, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
            )
        )
    if kind == "bert":
        return hf.BertForMaskedLM(hf.BertConfig(vocab_size=rows, max_position_embeddings=32, **SIZES))
    if kind == "roberta":
        return hf.RobertaForMaskedLM(
            hf.RobertaConfig(vocab_size=rows, max_position_embeddings=82, type_vocab_size=1, **SIZES)
        )
    if kind == "llama":
        rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16}  # fmt: skip
        return hf.LlamaForCausalLM(
            hf.LlamaConfig(vocab_size=rows, attention_bias=True, rope_parameters=rope, **GROUPED)
        )
    if kind == "mistral":
        return hf.MistralForCausalLM(hf.MistralConfig(vocab_size=rows, head_dim=16, sliding_window=60, **GROUPED))
    if kind == "qwen2":
        ends = {"bos_token_id": 0, "eos_token_id": [0, 7]}
        return hf.Qwen2ForCausalLM(hf.Qwen2Config(vocab_size=rows, tie_word_embeddings=True, **ends, **GROUPED))
    if kind == "qwen3":
        return hf.Qwen3ForCausalLM(hf.Qwen3Config(vocab_size=rows, head_dim=16, eos_token_id=0, **GROUPED))
    pictures = {"image_size": 16, "patch_size": 4, **SIZES}
    if kind == "vit":
        return hf.ViTModel(hf.ViTConfig(qkv_bias=False, **pictures))
    if kind == "deit":
        return hf.DeiTModel(hf.DeiTConfig(**pictures))
    if kind == "clip":
        words = {"vocab_size": rows, "max_position_embeddings": 76, "bos_token_id": 0, "eos_token_id": 2, **SIZES}
        return hf.CLIPModel(hf.CLIPConfig(text_config=words, vision_config=pictures, projection_dim=16))
    if kind == "whisper":
        return hf.WhisperModel(
            hf.WhisperConfig(
                vocab_size=40, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
                decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8,
                max_source_positions=20, max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                decoder_start_token_id=1,
            )
        )  # fmt: skip
    if kind in _MORE_TEXT:
        return _MORE_TEXT[kind](rows)
    if kind in _MORE_PICTURES:
        return _MORE_PICTURES[kind]()
    raise ValueError(kind)


_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16,
         "beta_fast": 4.0, "beta_slow": 0.5}  # fmt: skip
_LONG = {"rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0, 1.1, 1.2, 1.4],
         "long_factor": [2.0, 3.0, 4.0, 5.0], "original_max_position_embeddings": 60}  # fmt: skip
_PICTURES = {"image_size": 16, "patch_size": 4, **SIZES}
_POSITIONS = {"max_position_embeddings": 82, "type_vocab_size": 1}


def _gemma(rows: int) -> Any:
    return hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(
            vocab_size=rows, head_dim=16, query_pre_attn_scalar=12, sliding_window=60, sliding_window_pattern=2,
            rope_parameters={"full_attention": {**_ROPE, "rope_theta": 50_000.0}, "sliding_attention": _ROPE},
            bos_token_id=1, eos_token_id=2, pad_token_id=0, **GROUPED,
        )
    )  # fmt: skip


def _modern(rows: int) -> Any:
    sizes = {**SIZES, "num_hidden_layers": 4}
    return hf.ModernBertForMaskedLM(
        hf.ModernBertConfig(vocab_size=rows, max_position_embeddings=128, local_attention=126, pad_token_id=0,
                            bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3, **sizes)
    )  # fmt: skip


_MORE_TEXT = {
    "phi3": lambda rows: hf.Phi3ForCausalLM(
        hf.Phi3Config(vocab_size=rows, rope_parameters=_LONG, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                      original_max_position_embeddings=60, **GROUPED)
    ),
    "olmo2": lambda rows: hf.Olmo2ForCausalLM(
        hf.Olmo2Config(vocab_size=rows, pad_token_id=0, bos_token_id=1, eos_token_id=2, **GROUPED)
    ),
    "smollm3": lambda rows: hf.SmolLM3ForCausalLM(
        hf.SmolLM3Config(vocab_size=rows, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                         **{**GROUPED, "num_hidden_layers": 4})
    ),
    "gemma3": _gemma,
    "yarn": lambda rows: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(vocab_size=rows, bos_token_id=0, eos_token_id=0, rope_parameters=_YARN, **GROUPED)
    ),
    "linear": lambda rows: hf.LlamaForCausalLM(
        hf.LlamaConfig(vocab_size=rows, mlp_bias=True, rope_parameters={**_ROPE, "rope_type": "linear", "factor": 3.0},
                       **GROUPED)
    ),
    "xlm-roberta": lambda rows: hf.XLMRobertaForMaskedLM(hf.XLMRobertaConfig(vocab_size=rows, **_POSITIONS, **SIZES)),
    "distilbert": lambda rows: hf.DistilBertForMaskedLM(
        hf.DistilBertConfig(vocab_size=rows, max_position_embeddings=32, dim=32, hidden_dim=48, n_layers=2, n_heads=4)
    ),
    "albert": lambda rows: hf.AlbertForMaskedLM(
        hf.AlbertConfig(vocab_size=rows, embedding_size=24, max_position_embeddings=32, num_hidden_groups=2,
                        bos_token_id=2, eos_token_id=3, **{**SIZES, "num_hidden_layers": 4})
    ),
    "modernbert": _modern,
    "untied": lambda rows: hf.BertForMaskedLM(
        hf.BertConfig(vocab_size=rows, max_position_embeddings=32, tie_word_embeddings=False, **SIZES)
    ),
    "siglip": lambda rows: hf.SiglipModel(
        hf.SiglipConfig(text_config={"vocab_size": rows, "max_position_embeddings": 48, **SIZES},
                        vision_config=_PICTURES)
    ),
    "chinese_clip": lambda rows: hf.ChineseCLIPModel(
        hf.ChineseCLIPConfig(text_config={"vocab_size": rows, "max_position_embeddings": 32, **SIZES},
                             vision_config=_PICTURES, projection_dim=16)
    ),
}  # fmt: skip
_MORE_PICTURES = {
    "vit_mae": lambda: hf.ViTMAEModel(hf.ViTMAEConfig(mask_ratio=0.0, **_PICTURES)),
    "dinov2": lambda: hf.Dinov2Model(
        hf.Dinov2Config(image_size=32, patch_size=4, mlp_ratio=2, hidden_size=32, num_hidden_layers=2,
                        num_attention_heads=4)
    ),
    "siglip_vision": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**_PICTURES)),
    "clip_vision": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**_PICTURES)),
}  # fmt: skip


def _processor(kind: str) -> Any:
    if kind == "dinov2":
        return hf.BitImageProcessorPil(
            size={"shortest_edge": 24}, crop_size={"height": 20, "width": 20}, image_mean=[0.4, 0.5, 0.6]
        )
    if kind == "chinese_clip":
        return hf.ChineseCLIPImageProcessorPil(size={"height": 18, "width": 18}, crop_size={"height": 16, "width": 16})
    if kind.startswith("siglip"):
        return hf.SiglipImageProcessorPil(size={"height": 16, "width": 16})
    if kind.startswith("clip"):
        return hf.CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16})
    if kind == "deit":
        return hf.DeiTImageProcessorPil(size={"height": 20, "width": 20}, crop_size={"height": 16, "width": 16})
    return hf.ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.4, 0.5, 0.6])


def write(kind: str, folder: Path, shard: str = "5GB", seed: int = 1) -> tuple[Any, Any]:
    """A checkpoint of this family in `folder`, its numbers drawn with `seed`. Returns its model and its tokenizer or
    image processor."""
    words = None if kind in (*PICTURES, "whisper") else _tokenizer(kind, folder)
    torch.manual_seed(0)
    model = _model(kind, 0 if words is None else len(words) + 3).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        centre = 1.0 if parameter.ndim == 1 and bool((parameter == 1).all()) else 0.0
        parameter.data.normal_(centre, 0.2, generator=generator)
    model.save_pretrained(folder, max_shard_size=shard)
    if words is not None and kind not in WORD_PIECES:  # those have their vocab.txt
        words.save_pretrained(folder)
    both = ("clip", "chinese_clip", "siglip")
    pictures = _processor(kind) if kind in (*PICTURES, *both) else None
    if pictures is not None:
        pictures.save_pretrained(folder)
    return model, (words, pictures) if kind in both else words or pictures


def write_without_biases(folder: Path) -> None:
    """The Llama in this folder again, without the biases of its attention."""
    model = hf.LlamaForCausalLM.from_pretrained(folder)
    model.config.attention_bias = False
    bare = hf.LlamaForCausalLM(model.config)
    bare.load_state_dict(model.state_dict(), strict=False)
    bare.save_pretrained(folder)
