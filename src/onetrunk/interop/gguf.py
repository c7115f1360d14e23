"""Writes a text column that is asked from nothing as one GGUF file for llama.cpp, and checks it in llama.cpp itself.

llama.cpp's own converter takes only tokenizers whose hash it knows, never one that was learnt here: so the file is
written with its `gguf` package, of the checkpoint that `huggingface.outward` makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.columns.families.tokens.special_tokens import OWN
from onetrunk.columns.text.conversations import ANSWERS, is_conversation
from onetrunk.columns.text.encoder import TextEncoder
from onetrunk.core.errors import EvidenceError, MissingExtraError, UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.interop.huggingface.reference_logits import logits_of
from onetrunk.interop.huggingface.to_checkpoint import as_checkpoint
from onetrunk.interop.huggingface.tokenizers import LLAMA3_PATTERN, QWEN_PATTERN, TEKKEN_PATTERN
from onetrunk.interop.huggingface.trunk_writer import Written
from onetrunk.interop.huggingface.writer import chat_template
from onetrunk.interop.parity import Parity

FILE = "model.gguf"
_NEW_TOKENS, _LIKELIEST = 8, 10  # of each row's check: how far it goes on, and how many tokens' numbers are compared


@dataclass(frozen=True)
class _Kind:
    """What llama.cpp calls a family, and what it wants otherwise than transformers."""

    arch: str
    neighbours_turn: bool = False  # does it rotate neighbouring numbers of a head together, not its halves?


_KINDS = {"qwen3": _Kind("QWEN3"), "qwen2": _Kind("QWEN2"), "llama": _Kind("LLAMA", neighbours_turn=True),
          "mistral": _Kind("LLAMA", neighbours_turn=True), "gpt2": _Kind("GPT2")}  # fmt: skip
_PRE = {QWEN_PATTERN: "qwen2", LLAMA3_PATTERN: "llama-bpe", TEKKEN_PATTERN: "tekken"}  # how it splits a text


def write(model: Model, ask: str, folder: Path) -> None:
    """Puts model.gguf in a folder. UsageError where the column or trunk is not what it holds; MissingExtraError."""
    gguf = _library()
    made, encoder = as_checkpoint(model, ask), _text(model, ask)
    config, kind = made.config, _KINDS.get(made.kind)
    if kind is None or config.get("rope_scaling") is not None or config.get("mlp_bias"):
        raise UsageError(
            f"This model is written as {made.kind}; GGUF is written of {', '.join(_KINDS)}, without rope_scaling and "
            "biases of MLPs."
        )
    splits = _splits(encoder)
    if splits is None:
        raise UsageError(
            f"The tokenizer of {ask!r} is not one that is written as GGUF: expected byte-level pieces (unit: bpe), "
            "split as GPT-2, Llama 3, Qwen or Tekken does. Of others, llama.cpp's convert_hf_to_gguf.py makes GGUF of "
            "--to huggingface."
        )
    arch = getattr(gguf.MODEL_ARCH, kind.arch)
    out = gguf.GGUFWriter(folder / FILE, gguf.MODEL_ARCH_NAMES[arch])
    for key, value in _sizes(config).items():
        getattr(out, f"add_{key}")(value)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(out, encoder, splits, gguf.TokenType)
    for name, array in _arrays(made, kind).items():
        out.add_tensor(name, array)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("gguf", "gguf", "Writing GGUF") from None
    return gguf


def _text(model: Model, ask: str) -> TextEncoder:
    encoder = model.encoder(ask)
    if not isinstance(encoder, TextEncoder) or encoder.token_head.does != "writing":
        raise UsageError(f"{ask!r} is no text that is written: GGUF is for models that write.")
    return encoder


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    """What the file says of the trunk, by the names of its library's methods."""
    heads = config.get("num_attention_heads", config.get("n_head"))
    out = {
        "context_length": config.get("max_position_embeddings", config.get("n_positions")),
        "embedding_length": config.get("hidden_size", config.get("n_embd")),
        "feed_forward_length": config.get("intermediate_size", config.get("n_inner")),
        "block_count": config.get("num_hidden_layers", config.get("n_layer")),
        "head_count": heads,
        "head_count_kv": config.get("num_key_value_heads", heads),
        "vocab_size": config["vocab_size"],
    }
    if "rms_norm_eps" not in config:
        return {**out, "layer_norm_eps": config["layer_norm_epsilon"]}
    width = config.get("head_dim") or out["embedding_length"] // heads
    return {**out, "key_length": width, "value_length": width, "rope_dimension_count": width,
            "layer_norm_rms_eps": config["rms_norm_eps"], "rope_freq_base": config["rope_theta"]}  # fmt: skip


def _arrays(made: Written, kind: _Kind) -> dict[str, np.ndarray]:
    """Every tensor as it stands in the file, by the names there."""
    gguf = _library()
    arch = getattr(gguf.MODEL_ARCH, kind.arch)
    config, out = made.config, {}
    heads = int(config.get("num_attention_heads") or config["n_head"])
    names = gguf.get_tensor_name_map(arch, config.get("num_hidden_layers", config.get("n_layer")))
    for name, tensor in made.tensors.items():
        stem, _, suffix = name.rpartition(".")
        if made.kind == "gpt2" and tensor.ndim == 2 and ".h." in name:
            tensor = tensor.T  # there, matrices are [in, out]
        if kind.neighbours_turn and stem.endswith(("q_proj", "k_proj")):
            n = heads if stem.endswith("q_proj") else int(config["num_key_value_heads"])
            halves = tensor.reshape(n, 2, tensor.shape[0] // n // 2, *tensor.shape[1:])
            tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
        out[f"{names.get_name(stem)}.{suffix}"] = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
    return out


def _splits(encoder: TextEncoder) -> str | None:
    """What llama.cpp calls the way in which the tokenizer splits a text, if it knows it."""
    spec = json.loads(encoder.tokenizer.to_str())
    if spec["model"]["type"] != "BPE" or spec["model"].get("byte_fallback") or encoder.options.unit != "bpe":
        return None
    steps = spec["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers") or [steps]
    if not any(step.get("type") == "ByteLevel" and not step.get("add_prefix_space") for step in steps):
        return None
    patterns = [step["pattern"].get("Regex") for step in steps if step.get("type") == "Split"]
    if not patterns:
        return "gpt-2" if all(step.get("use_regex", True) for step in steps) else None
    return _PRE.get(patterns[0]) if len(patterns) == 1 else None


def _add_tokenizer(out: Any, encoder: TextEncoder, splits: str, kinds: Any) -> None:
    spec, special = json.loads(encoder.tokenizer.to_str()), encoder.special
    added = {token["id"]: token["special"] for token in spec["added_tokens"]}
    tokens = dict(sorted((i, token) for token, i in encoder.tokenizer.get_vocab().items()))
    types = {None: kinds.NORMAL, True: kinds.CONTROL, False: kinds.USER_DEFINED}
    every = range(encoder.size)  # rows of the table that no token has are spare
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(splits)
    out.add_token_list([tokens.get(i, f"[PAD{i}]") for i in every])
    out.add_token_types([types[added.get(i)] if i in tokens else kinds.UNUSED for i in every])
    out.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in spec["model"]["merges"]])
    out.add_bos_token_id(special.start)
    out.add_eos_token_id(special.end)
    if special.unknown >= 0:
        out.add_unk_token_id(special.unknown)
    out.add_pad_token_id(special.end)
    out.add_add_bos_token(_begins(encoder))
    if (template := chat_template(encoder)) is not None:
        out.add_chat_template(template)


def _begins(encoder: TextEncoder) -> bool:
    """Does a text that is told begin with the start token there? Where a checkpoint's own tokenizer does not put it, it
    does not."""
    return encoder.special == OWN or encoder.special.before == (encoder.special.start,)


# -- checking ------------------------------------------------------------------------------------------------
def _compare_file(parity: Parity, model: Model, ask: str, path: Path) -> None:
    """Every tensor, bit by bit, and what the file says of tokens: texts that are tried need not use all of it."""
    gguf = _library()
    made, encoder, reader = as_checkpoint(model, ask), _text(model, ask), gguf.GGUFReader(path)
    arrays = _arrays(made, _KINDS[made.kind])
    in_file = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    parity.same("the list of tensors", sorted(arrays), sorted(in_file))
    for name in arrays.keys() & in_file.keys():
        if not np.array_equal(arrays[name].ravel(), in_file[name].ravel()):
            parity.faults.append(f"the tensor {name} holds other numbers")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tokens = {i: token for token, i in encoder.tokenizer.get_vocab().items()}
    kept = [token for i, token in enumerate(fields["tokenizer.ggml.tokens"]) if i in tokens]
    parity.same("the list of tokens", [tokens[i] for i in sorted(tokens)], kept)
    for name, value in [("bos_token_id", encoder.special.start), ("eos_token_id", encoder.special.end),
                        ("add_bos_token", _begins(encoder)), ("pre", _splits(encoder))]:  # fmt: skip
        parity.same(f"tokenizer.ggml.{name}", value, fields.get(f"tokenizer.ggml.{name}"))
    parity.same("the chat template", chat_template(encoder), fields.get("tokenizer.chat_template"))


def compare(model: Model, ask: str, folder: Path, values: list[Any]) -> Parity:
    """How llama.cpp goes on from the first half of each text (of a conversation, from what its last reply answers):
    the log-probabilities of the likeliest next tokens, and the answer that a person reads, against the model's own.
    And everything that the file holds.

    Raises EvidenceError where it does not answer; MissingExtraError.
    """
    encoder, parity = _text(model, ask), Parity()
    _compare_file(parity, model, ask, folder / FILE)
    if parity.faults:
        return parity
    server, ours, theirs = _open(folder / FILE, encoder.options.length), [], []
    for value in values:
        prompt, ids = _prompt_of(encoder, value)
        if not ids or len(ids) + _NEW_TOKENS > encoder.options.length:
            continue  # nothing to go on from, or no room to
        own: list[int] = []
        in_file: list[int] = []
        gap = float("inf")
        for _ in range(_NEW_TOKENS):
            logits = logits_of(model, ask, ids).log_softmax(-1)[-1].numpy()
            own.append(int(logits.argmax()))
            if told := _likeliest(server, prompt):
                ours.append(logits[list(told)])
                theirs.append(list(told.values()))
                in_file.append(next(iter(told)))
                gap = float(logits[own[-1]] - logits[in_file[-1]]) / (float(np.sqrt(np.mean(ours[-1] ** 2))) or 1.0)
            else:
                in_file.append(own[-1])
            if own != in_file:
                break
            ids = [*ids, own[-1]]
            prompt = ids
        parity.answer((own, encoder.decode(own)), (in_file, encoder.decode(in_file)), gap)
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


def _prompt_of(encoder: TextEncoder, value: Any) -> tuple[Any, list[int]]:
    """What llama.cpp is told, and the ids that the model should see of it; of a text, short enough to go on from."""
    if is_conversation(value):
        last = max((i for i, turn in enumerate(value) if turn["role"] == ANSWERS), default=len(value))
        return value[:last], [encoder.special.start, *encoder.encode(value[:last])["id"].tolist()]
    text, start = str(value)[: len(str(value)) // 2], [encoder.special.start] if _begins(encoder) else []
    while len(ids := [*start, *encoder.encode(text)["id"].tolist()]) + _NEW_TOKENS > encoder.options.length:
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
