"""Writes a text column that is asked from nothing as one GGUF file for llama.cpp, and checks it in llama.cpp itself.

llama.cpp's own converter takes only tokenizers whose hash it knows, never one that was learnt here: so the file is
written with its `gguf` package, of the checkpoint that `huggingface.outward` makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onetrunk.columns.text.conversations import ANSWERS, is_conversation
from onetrunk.columns.text.encoder import TextEncoder
from onetrunk.core.errors import EvidenceError, MissingExtraError, UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.interop.gguf_tokens import add_tokenizer, begins, pieces_of, scores_of
from onetrunk.interop.huggingface.families import FAMILIES
from onetrunk.interop.huggingface.reference_logits import logits_of
from onetrunk.interop.huggingface.to_checkpoint import as_checkpoint
from onetrunk.interop.huggingface.trunk_writer import Written
from onetrunk.interop.huggingface.writer import chat_template
from onetrunk.interop.parity import Parity
from onetrunk.nn.attention import RopeScaling, Rotary
from onetrunk.nn.transformer import Transformer, TransformerConfig

FILE = "model.gguf"
_NEW_TOKENS, _LIKELIEST = 8, 10  # of each row's check: how far it goes on, and how many tokens' numbers are compared


@dataclass(frozen=True)
class _Kind:
    """What llama.cpp calls a family, what it wants otherwise than transformers, and what it has no place for."""

    arch: str
    activation: str = "swiglu"
    neighbours_turn: bool = False  # does it rotate neighbouring numbers of a head together, not its halves?
    factors: bool = False  # has it a tensor that says how much slower each pair turns?
    yarn: bool = True  # else, are YaRN's longer rotations computed as transformers does?
    biases: tuple[str, ...] = ()  # of which maps, beside those that all of the family have


_LLAMA = _Kind("LLAMA", neighbours_turn=True, factors=True, biases=("attention_bias", "mlp_bias"))
_KINDS = {
    "qwen3": _Kind("QWEN3"),
    "qwen2": _Kind("QWEN2"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "gpt2": _Kind("GPT2", activation="gelu_tanh"),
    "olmo2": _Kind("OLMO2"),
    "smollm3": _Kind("SMOLLM3", neighbours_turn=True),
    "gemma3_text": _Kind("GEMMA3", activation="geglu_tanh", yarn=False),  # it would also scale layers with a window
}
_WITHOUT = 4  # every so many layers of a SmolLM3 have no positions, whatever a file says
_LARGE = 62  # so many layers tell llama.cpp that a Gemma 3 is the largest, whose queries are divided by another number


def write(model: Model, ask: str, folder: Path) -> None:
    """Puts model.gguf in a folder. UsageError where the column or trunk is not what it holds; MissingExtraError."""
    gguf = _library()
    encoder = _text(model, ask)
    pieces, made = pieces_of(encoder, ask), as_checkpoint(model, ask, _KINDS)
    kind = _KINDS[made.kind]
    if (reason := _misfit(made, kind, _trunk(model))) is not None:
        raise UsageError(f"{reason} --to huggingface holds it.")
    scaling = _scaling(model, kind)
    arch = getattr(gguf.MODEL_ARCH, kind.arch)
    out = gguf.GGUFWriter(folder / FILE, gguf.MODEL_ARCH_NAMES[arch])
    for key, value in _sizes(made.config, _trunk(model).config).items():
        getattr(out, f"add_{key}")(value)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    for key, value in scaling.items():
        getattr(out, f"add_rope_scaling_{key}")(value)
    add_tokenizer(out, encoder, pieces, gguf.TokenType)
    for name, array in _arrays(model, made, kind).items():
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


def _misfit(made: Written, kind: _Kind, trunk: Transformer) -> str | None:
    """What of the trunk llama.cpp has no place for in this kind, if anything."""
    c = trunk.config
    for said in ("attention_bias", "mlp_bias"):
        if made.config.get(said) and said not in kind.biases:
            return f"Its maps have biases ({said}), which llama.cpp has no place for in its {kind.arch}."
    if c.activation != kind.activation:
        return f"Its activation is {c.activation}; that of llama.cpp's {kind.arch} is {kind.activation}."
    layers = ", ".join(trunk.rope_layers)
    if made.kind == "smollm3" and trunk.rope_layers != _every(_WITHOUT, c.layers, "none", "rotary"):
        return f"Its layers are {layers}; of llama.cpp's SMOLLM3 every {_WITHOUT}th has no positions, and no other."
    if "local" in trunk.rope_layers and trunk.rope_layers != _every(_period(c), c.layers, "rotary", "local"):
        return f"Its layers are {layers}; of llama.cpp's {kind.arch} every n-th sees the whole text, and no other."
    return None


def _period(c: TransformerConfig) -> int:
    """Every how many layers there is one without a window."""
    kinds = c.rope_layers or ("rotary",)
    return kinds.index("rotary") + 1 if "rotary" in kinds else c.layers + 1


def _every(n: int, layers: int, nth: str, others: str) -> tuple[str, ...]:
    return tuple(others if (i + 1) % n else nth for i in range(layers))


def _sizes(config: dict[str, Any], trunk: TransformerConfig) -> dict[str, Any]:
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
    out |= {"key_length": width, "value_length": width, "rope_dimension_count": width,
            "layer_norm_rms_eps": config["rms_norm_eps"], "rope_freq_base": trunk.rope_theta}  # fmt: skip
    if "local" not in (trunk.rope_layers or ()):
        return out
    return {**out, "sliding_window": config["sliding_window"], "sliding_window_pattern": _period(trunk),
            "rope_freq_base_swa": trunk.rope_local_theta}  # fmt: skip


def _scaling(model: Model, kind: _Kind) -> dict[str, Any]:
    """What the file says of longer rotations. A Llama has them as a tensor, all of them. UsageError, by name."""
    rotary = _trunk(model).rotary
    s = rotary.scaling
    if s is None or kind.factors:
        return {}
    types = _library().RopeScalingType
    if s.kind == "linear":
        return {"type": types.LINEAR, "factor": s.factor}
    if s.kind == "yarn" and kind.yarn and _turns_as_usual(rotary, s):
        return {"type": types.YARN, "factor": s.factor, "orig_ctx_len": s.original}
    what = {"llama3": "Llama 3's", "divided": "LongRoPE's",
            "yarn": f"YaRN's (beta_fast {s.high:g}, beta_slow {s.low:g}, truncate {str(s.whole).lower()})"}  # fmt: skip
    usual = ", or YaRN's with beta_fast 32 and beta_slow 1" if kind.yarn else ""
    raise UsageError(
        f"Its longer rotations are {what[s.kind]}, which llama.cpp has no place for in its {kind.arch}: expected "
        f"linear ones{usual}. --to huggingface holds them."
    )


def _turns_as_usual(rotary: Rotary, s: RopeScaling) -> bool:
    """Does YaRN turn the pairs as it does with the numbers that llama.cpp has, whatever a file says?"""
    usual = Rotary(rotary.head_width, rotary.theta, s.model_copy(update={"high": 32.0, "low": 1.0, "whole": True}))
    return torch.equal(usual.slowed(), rotary.slowed())


def _trunk(model: Model) -> Transformer:
    trunk = model.network.trunk
    assert isinstance(trunk, Transformer), "what is written was checked"
    return trunk


def _attention_size(trunk: Transformer, kind: _Kind) -> float:
    """What queries and keys are multiplied by here, beyond what llama.cpp does by itself."""
    c, s = trunk.config, trunk.rotary.scaling
    size = (c.width // c.heads / c.width_of_heads) ** 0.25 if kind.arch == "GEMMA3" and c.layers == _LARGE else 1.0
    if s is None:
        return size
    own = 1 + 0.1 * math.log(s.factor) if s.kind == "yarn" and not kind.factors else 1.0
    return size * s.attention / own


def _arrays(model: Model, made: Written, kind: _Kind) -> dict[str, np.ndarray]:
    """Every tensor as it stands in the file, by the names there."""
    gguf, trunk = _library(), _trunk(model)
    arch = getattr(gguf.MODEL_ARCH, kind.arch)
    config, out = made.config, {}
    heads = int(config.get("num_attention_heads") or config["n_head"])
    normed = any(name.endswith("q_norm.weight") for name in made.tensors)
    sizing, size = ("q_norm", "k_norm") if normed else ("q_proj", "k_proj"), _attention_size(trunk, kind)
    names = gguf.get_tensor_name_map(arch, config.get("num_hidden_layers", config.get("n_layer")))
    for name, tensor in made.tensors.items():
        stem, _, suffix = name.rpartition(".")
        if made.kind == "gpt2" and tensor.ndim == 2 and ".h." in name:
            tensor = tensor.T  # there, matrices are [in, out]
        if FAMILIES[made.kind].norms_from_one and "norm" in stem:
            tensor = tensor + 1
        if stem.endswith(sizing):
            tensor = tensor * size
        if kind.neighbours_turn and stem.endswith(("q_proj", "k_proj")):
            n = heads if stem.endswith("q_proj") else int(config["num_key_value_heads"])
            halves = tensor.reshape(n, 2, tensor.shape[0] // n // 2, *tensor.shape[1:])
            tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
        out[f"{names.get_name(stem)}.{suffix}"] = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
    if kind.factors and trunk.rotary.scaling is not None:
        out["rope_freqs.weight"] = trunk.rotary.slowed().numpy()
    return out


# -- checking ------------------------------------------------------------------------------------------------
def _compare_file(parity: Parity, model: Model, ask: str, path: Path) -> None:
    """Every tensor, bit by bit, and what the file says of tokens: texts that are tried need not use all of it."""
    gguf = _library()
    made, encoder, reader = as_checkpoint(model, ask, _KINDS), _text(model, ask), gguf.GGUFReader(path)
    arrays, pieces = _arrays(model, made, _KINDS[made.kind]), pieces_of(encoder, ask)
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
                        ("add_bos_token", begins(encoder)), ("pre", pieces.pre), ("model", pieces.model)]:  # fmt: skip
        parity.same(f"tokenizer.ggml.{name}", value, fields.get(f"tokenizer.ggml.{name}"))
    if pieces.model == "llama":
        parity.same("the scores of the tokens", scores_of(encoder), fields.get("tokenizer.ggml.scores"))
        parity.same("the space before a text", pieces.space_first, fields.get("tokenizer.ggml.add_space_prefix"))
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
    text, start = str(value)[: len(str(value)) // 2], [encoder.special.start] if begins(encoder) else []
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
