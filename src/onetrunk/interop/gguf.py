"""Writes a text column that is asked from nothing as one GGUF file for llama.cpp, and checks it in llama.cpp itself.

llama.cpp's own converter takes only tokenizers whose hash it knows, never one that was learnt here: so the file is
written with its `gguf` package, of the Qwen3 checkpoint that `_writer` makes, with GPT-2's way of splitting text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.columns.families.tokens.special_tokens import OWN
from onetrunk.columns.text.conversations import ANSWERS, is_conversation
from onetrunk.core.errors import EvidenceError, MissingExtraError, UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.interop.huggingface import causal_lm
from onetrunk.interop.parity import Parity

FILE = "model.gguf"
_NEW_TOKENS, _LIKELIEST = 8, 10  # of each row's check: how far it goes on, and how many tokens' numbers are compared


def write(model: Model, ask: str, path: Path) -> None:
    """Puts model.gguf in a folder. UsageError where the column or trunk is not what it holds; MissingExtraError."""
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("gguf", "gguf", "Writing GGUF") from None
    encoder: Any = model.encoder(ask)
    config, tensors = causal_lm.checkpoint(model, ask)
    if config["model_type"] != "qwen3" or config["rope_scaling"] is not None:
        raise UsageError("GGUF is written of a trunk with normed queries and keys (qk_norm) and without rope_scaling.")
    if encoder.special != OWN or encoder.options.unit != "bpe":
        raise UsageError(
            f"The tokenizer of {ask!r} is not one that is written as GGUF: expected pieces learnt here (unit: bpe). "
            "Of a tokenizer that it knows, llama.cpp's convert_hf_to_gguf.py makes GGUF of --to huggingface."
        )
    kind = gguf.MODEL_ARCH.QWEN3
    out = gguf.GGUFWriter(path / FILE, gguf.MODEL_ARCH_NAMES[kind])
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_key_length(config["head_dim"])
    out.add_value_length(config["head_dim"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(config["rope_theta"])
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(out, encoder, gguf.TokenType)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    for name, tensor in tensors.items():
        stem, _, suffix = name.rpartition(".")
        out.add_tensor(f"{names.get_name(stem)}.{suffix}", tensor.detach().float().cpu().numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _add_tokenizer(out: Any, encoder: Any, kinds: Any) -> None:
    described = json.loads(encoder.tokenizer.to_str())
    added = {token["id"]: token["special"] for token in described["added_tokens"]}
    tokens = sorted(encoder.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    types = {None: kinds.NORMAL, True: kinds.CONTROL, False: kinds.USER_DEFINED}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([token for token, _ in tokens])
    out.add_token_types([types[added.get(i)] for _, i in tokens])
    out.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in described["model"]["merges"]])
    out.add_bos_token_id(encoder.special.start)
    out.add_eos_token_id(encoder.special.end)
    out.add_unk_token_id(encoder.special.unknown)
    out.add_pad_token_id(encoder.special.end)
    out.add_add_bos_token(True)
    if (template := causal_lm.chat_template(encoder)) is not None:
        out.add_chat_template(template)


def compare(model: Model, ask: str, path: Path, values: list[Any]) -> Parity:
    """How llama.cpp goes on from the first half of each text (of a conversation, from what its last reply answers):
    the log-probabilities of the likeliest next tokens, and the likeliest, against the model's own.

    Raises EvidenceError where it does not answer; MissingExtraError.
    """
    encoder: Any = model.encoder(ask)
    parity, server = Parity(), _open(path / FILE, encoder.options.length)
    ours, theirs = [], []
    for value in values:
        prompt, ids = _prompt_of(encoder, value)
        if len(ids) + _NEW_TOKENS > encoder.options.length:
            continue  # a conversation that leaves no room to go on
        for _ in range(_NEW_TOKENS):
            logprobs = causal_lm.next_logits(model, ask, ids).log_softmax(-1)[-1].numpy()
            if likeliest := _likeliest(server, prompt):
                ours.append(logprobs[list(likeliest)])
                theirs.append(list(likeliest.values()))
                parity.count([int(logprobs.argmax())], [next(iter(likeliest))])
            ids = [*ids, int(logprobs.argmax())]
            prompt = ids
    if not ours:
        raise EvidenceError("llama.cpp wrote nothing after any row: it could not be checked. Nothing was written.")
    parity.add(np.concatenate(ours), np.concatenate(theirs))
    return parity


def _likeliest(server: Any, prompt: Any) -> dict[int, float]:
    """The next tokens that llama.cpp finds likeliest and their log-probabilities, the first one first; none where that
    is no whole character, of which it does not tell."""
    common = {"temperature": 0, "max_tokens": 1}
    if is_conversation(prompt):
        reply = server.handle_chat_completions(
            {"messages": prompt, "logprobs": True, "top_logprobs": _LIKELIEST, **common}
        )
    else:
        reply = server.handle_completions({"prompt": prompt, "logprobs": _LIKELIEST, **common})
    if "error" in reply:
        raise EvidenceError(f"llama.cpp does not answer: {reply['error'].get('message')}. Nothing was written.")
    (choice,) = reply["choices"]
    steps = (choice["logprobs"] or {}).get("content") or [{"top_logprobs": []}]
    return {token["id"]: token["logprob"] for token in steps[0]["top_logprobs"]}


def _prompt_of(encoder: Any, value: Any) -> tuple[Any, list[int]]:
    """What llama.cpp is told, and the ids that the model should see of it; of a text, short enough to go on from."""
    if is_conversation(value):
        last = max((i for i, turn in enumerate(value) if turn["role"] == ANSWERS), default=len(value))
        return value[:last], [encoder.special.start, *encoder.encode(value[:last])["id"].tolist()]
    text = str(value)[: len(str(value)) // 2]
    while (
        len(ids := [encoder.special.start, *encoder.encode(text)["id"].tolist()]) + _NEW_TOKENS > encoder.options.length
    ):
        text = text[: len(text) // 2]
    return text, ids


def _open(path: Path, context: int) -> Any:
    """llama.cpp, on the CPU, in float32; it listens to this machine alone, as long as the check lasts."""
    try:
        import xllamacpp
    except ImportError:
        raise MissingExtraError("xllamacpp", "gguf", "Checking a GGUF file") from None
    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.n_gpu_layers = str(path), context, 1, 0
    p.port, p.ui, p.warmup, p.verbosity = 0, False, False, -1
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(p)
