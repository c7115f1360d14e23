"""Writes a text column that is asked from nothing as a Qwen3 or Llama checkpoint, which transformers and vLLM open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, processors

from onetrunk.columns.families.tokens.special_tokens import OWN
from onetrunk.columns.text.conversations import ANSWERS, is_conversation
from onetrunk.core.errors import MissingExtraError
from onetrunk.inference.model_folder import Model
from onetrunk.interop.huggingface import causal_lm
from onetrunk.interop.parity import Parity
from onetrunk.storage.strict_json import write_json
from onetrunk.storage.tensors import save_tensors


def write(model: Model, ask: str, folder: Path) -> None:
    """Puts config.json, model.safetensors, generation_config.json and the tokenizer's files in a folder.

    Raises UsageError where the column or the trunk is not what these formats hold.
    """
    config, tensors = causal_lm.checkpoint(model, ask)
    encoder: Any = model.encoder(ask)
    special = encoder.special
    write_json(folder / "config.json", config)
    never = {"suppress_tokens": list(special.never)} if special.never else {}
    generation = {"bos_token_id": special.start, "eos_token_id": config["eos_token_id"], "pad_token_id": special.end}
    write_json(folder / "generation_config.json", {**generation, **never})
    save_tensors(folder / "model.safetensors", tensors)
    _write_tokenizer(encoder, folder)


def compare(model: Model, ask: str, folder: Path, values: list[Any]) -> Parity:
    """What transformers makes of the folder against what the model makes of the same texts, token by token."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingExtraError("transformers", "interop", "Checking a Hugging Face export") from None
    encoder: Any = model.encoder(ask)
    parity = Parity()
    theirs = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for value in values:
        ids = [encoder.special.start, *encoder.encode(value)["id"].tolist()][: encoder.options.length]
        tokens = _tokens(tokenizer, value)[: len(ids)]
        ours = causal_lm.next_logits(model, ask, ids).numpy()
        with torch.inference_mode():
            logits = theirs(torch.tensor([ids])).logits[0].numpy()
        parity.add(ours, logits)
        # The text has the same tokens, and each the same likeliest next.
        same = tokens[tokens[:1] == ids[:1] :] == ids[1:]
        parity.count([True], [same and bool((ours.argmax(-1) == logits.argmax(-1)).all())])
    return parity


def _tokens(tokenizer: Any, value: Any) -> list[int]:
    """What transformers makes of a text, or of a conversation."""
    if not is_conversation(value):
        return tokenizer(str(value))["input_ids"]
    waits = value[-1]["role"] != ANSWERS
    text = tokenizer.apply_chat_template(value, tokenize=False, add_generation_prompt=waits)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _write_tokenizer(encoder: Any, folder: Path) -> None:
    """Ours gets what puts the start token before a text; one that came with a checkpoint has its own."""
    tokenizer = Tokenizer.from_str(encoder.tokenizer.to_str())
    spelt = tokenizer.id_to_token
    if encoder.special == OWN:
        start = spelt(encoder.special.start)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, encoder.special.start)]
        )
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    named = {"bos_token": encoder.special.start, "eos_token": encoder.special.end, "unk_token": encoder.special.unknown}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": encoder.options.length,
        **{name: spelt(i) for name, i in named.items() if i >= 0},
        "pad_token": spelt(encoder.special.end),
    }
    if (template := causal_lm.chat_template(encoder)) is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")
