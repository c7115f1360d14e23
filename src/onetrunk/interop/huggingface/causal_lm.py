"""What a causal language model of the Hugging Face format is made of: the configuration, tensors and chat template of a
Qwen3 or Llama, from a text column that is asked from nothing.

Our block is Qwen3's, so only names change. One vector tells our column and its role apart from others; it is added to
every embedding, and so goes into the table. The GGUF file is made of the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onetrunk.columns.text.conversations import ANSWERS
from onetrunk.columns.text.encoder import TextEncoder
from onetrunk.core.batch import Batch, Embed, Layout
from onetrunk.core.content import Role
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.nn.transformer import Transformer

_BLOCK = {"activation": "swiglu", "norm": "rms", "norm_place": "pre", "norm_first": False, "bias": "none",
          "positions": "rotary"}  # fmt: skip


def checkpoint(model: Model, ask: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A Qwen3's (or Llama's) configuration and tensors.

    Raises UsageError where the column or the trunk is not what these formats hold.
    """
    encoder, module, trunk = _checked(model, ask)
    c, special = trunk.config, encoder.special
    kind = "qwen3" if c.qk_norm else "llama"
    ends = [special.end, *special.stops]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": c.rope_theta}
    if (s := c.rope_scaling) is not None:
        rope |= {"rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low, "high_freq_factor": s.high,
                 "original_max_position_embeddings": s.original}  # fmt: skip
    attention = trunk.blocks[0].self_attn
    config = {
        "architectures": ["Qwen3ForCausalLM" if kind == "qwen3" else "LlamaForCausalLM"],
        "model_type": kind,
        "vocab_size": encoder.size,
        "hidden_size": c.width,
        "intermediate_size": trunk.blocks[0].mlp.up_proj.out_features,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": encoder.options.length,
        "rms_norm_eps": c.eps,
        "rope_theta": c.rope_theta,
        "rope_parameters": rope,
        "rope_scaling": None if c.rope_scaling is None else {k: v for k, v in rope.items() if k != "rope_theta"},
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": special.start,
        "eos_token_id": ends,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    head = module.table if encoder.token_head.tied else module.head
    tensors = {f"model.{name}": tensor for name, tensor in trunk.state_dict().items()}
    tensors["model.embed_tokens.weight"] = module.table + model.network.marker(ask)[Role.ASKED]
    return config, {**tensors, "lm_head.weight": head}


def chat_template(encoder: Any) -> str | None:
    """How a conversation is spelt, in Jinja, where the column learnt from some."""
    if not encoder.learnt_conversations:
        return None
    start, end = (encoder.tokenizer.id_to_token(i) for i in (encoder.special.start, encoder.special.end))
    return (
        "{% for turn in messages %}" + start + "{{ turn['role'] }}\n{{ turn['content'] }}" + end + "{% endfor %}"
        "{% if add_generation_prompt %}" + start + ANSWERS + "\n{% endif %}"
    )  # fmt: skip


def next_logits(model: Model, ask: str, ids: list[int]) -> Tensor:
    """The model's own, after each token of a text that begins with the start token: float32 [T, V]."""
    module: Any = model.module(ask)
    network = model.network
    device = next(network.parameters()).device
    with torch.inference_mode():
        role = torch.tensor([int(Role.ASKED)], device=device)
        here = torch.arange(len(ids), device=device)
        batch = Batch(
            Layout.stream(1, len(ids), device), {ask: Embed({"id": torch.tensor(ids, device=device)}, role, here)}
        )
        return torch.nn.functional.linear(*module.readout(network.encode(batch).h_ND)).float().cpu()


def _checked(model: Model, ask: str) -> tuple[Any, Any, Transformer]:
    module: Any = model.module(ask)
    encoder, trunk = model.encoder(ask), model.network.trunk
    if not isinstance(encoder, TextEncoder):
        raise UsageError(f"{ask!r} is no text: only a text is written by the models of the Hugging Face format.")
    if encoder.options.bigrams:
        raise UsageError(f"{ask!r} also embeds pairs of tokens (bigrams), which the Hugging Face format does not know.")
    if module.missing:
        raise UsageError(f"The tokens of {ask!r} have narrower vectors (embedding) than the Hugging Face format knows.")
    if encoder.token_head.bias or encoder.token_head.transform:
        raise UsageError(f"The read-out of {ask!r} is BERT's: it fills words in and does not write.")
    if not isinstance(trunk, Transformer):
        raise UsageError(
            f"This trunk has kind {trunk.config.kind!r}; the Hugging Face format that is written needs 'transformer'."
        )
    for key, value in _BLOCK.items():
        if (actual := getattr(trunk.config, key)) != value:
            raise UsageError(
                f"This trunk has {key} {actual!r}; the Hugging Face format that is written needs {value!r}."
            )
    return encoder, module, trunk
