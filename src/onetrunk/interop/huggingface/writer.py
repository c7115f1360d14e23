"""Writes a text column as a checkpoint that transformers and vLLM open, and compares what transformers makes of it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, processors

from onetrunk.columns.families.tokens.special_tokens import OWN
from onetrunk.columns.image.encoder import ImageEncoder
from onetrunk.columns.text.conversations import ANSWERS, is_conversation
from onetrunk.columns.text.encoder import TextEncoder
from onetrunk.core.errors import MissingExtraError
from onetrunk.inference.model_folder import Model
from onetrunk.interop.huggingface import picture_writer
from onetrunk.interop.huggingface.reference_logits import likeliest, logits_of
from onetrunk.interop.huggingface.to_checkpoint import as_checkpoint
from onetrunk.interop.parity import Parity
from onetrunk.storage.header import tensor_shapes
from onetrunk.storage.strict_json import write_json
from onetrunk.storage.tensors import load_tensors, save_tensors

_NEW_TOKENS = 8  # of each row's check: how far it is gone on
_PROBE = [{"role": "user", "content": "Hello, who is there?"}]


def write(model: Model, ask: str, folder: Path) -> None:
    """Puts config.json, model.safetensors, generation_config.json and the tokenizer's files in a folder.

    Of pictures, what `picture_writer` does. Raises UsageError where the column or the trunk is not what these formats
    hold.
    """
    if isinstance(model.encoder(ask), ImageEncoder):
        return picture_writer.write(model, ask, folder)
    made = as_checkpoint(model, ask)
    encoder = _text(model, ask)
    special = encoder.special
    write_json(folder / "config.json", made.config)
    never = {"suppress_tokens": list(special.never)} if special.never else {}
    if encoder.token_head.does == "writing":
        generation = {"bos_token_id": special.start, "eos_token_id": made.config["eos_token_id"],
                      "pad_token_id": made.config["pad_token_id"]}  # fmt: skip
        write_json(folder / "generation_config.json", {**generation, **never})
    save_tensors(folder / "model.safetensors", made.tensors)
    _write_tokenizer(encoder, folder, made.config)


def compare(model: Model, ask: str, folder: Path, values: list[Any]) -> Parity:
    """What transformers makes of the folder against what the model makes of the same rows: the tokens of each text, the
    numbers for each token, how it is gone on or filled in, and what a person reads of that. And every tensor that was
    written."""
    if isinstance(model.encoder(ask), ImageEncoder):
        return picture_writer.compare(model, ask, folder, values)
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "interop", "Checking a Hugging Face export") from None
    encoder, parity = _text(model, ask), Parity()
    _compare_tensors(parity, model, ask, folder)
    fills = encoder.token_head.does == "filling"
    kind: Any = transformers.AutoModelForMaskedLM if fills else transformers.AutoModelForCausalLM
    with picture_writer.without_bars():
        theirs = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    _compare_names(parity, encoder, tokenizer, theirs, fills)
    if encoder.template is not None:
        encoder.template.day = datetime.now()  # there, a template says today's
    probes = [_PROBE] if chat_template(encoder) is not None else []
    for value in [*probes, *values]:
        ids, own = _tokens_of(tokenizer, value), _own_tokens(encoder, value, fills)
        parity.same(f"what the tokenizer makes of {str(value)[:30]!r}", own, ids)
        text = encoder.decode([i for i in own if i not in _ends_of(encoder)])
        parity.same(f"the text of {str(value)[:30]!r}", text, tokenizer.decode(ids, skip_special_tokens=True))
        if parity.faults:
            break
        if value is not _PROBE:
            (_compare_filled if fills else _compare_written)(parity, model, ask, theirs, tokenizer, value)
    return parity


def _text(model: Model, ask: str) -> TextEncoder:
    encoder = model.encoder(ask)
    assert isinstance(encoder, TextEncoder), "what is written was checked"
    return encoder


def _compare_tensors(parity: Parity, model: Model, ask: str, folder: Path) -> None:
    """Bit by bit: texts that are tried need not use every one of them."""
    expected, in_file = as_checkpoint(model, ask).tensors, load_tensors(folder / "model.safetensors")
    parity.same("the list of tensors", sorted(expected), sorted(tensor_shapes(folder / "model.safetensors")))
    for name in expected.keys() & in_file.keys():
        if not torch.equal(expected[name], in_file[name]):
            parity.faults.append(f"the tensor {name} holds other numbers")


def _compare_names(parity: Parity, encoder: TextEncoder, tokenizer: Any, theirs: Any, fills: bool) -> None:
    special = encoder.special
    if fills:
        parity.same("the mask token", special.mask, tokenizer.mask_token_id)
        return
    ends = theirs.generation_config.eos_token_id
    parity.same("the tokens that end a text", [special.end, *special.stops], ends if isinstance(ends, list) else [ends])
    parity.same("the start token", special.start, tokenizer.bos_token_id)


def _ends_of(encoder: TextEncoder) -> set[int]:
    """Tokens that begin or end a text, or stand for what is not known, which a person does not read."""
    special = encoder.special
    return {special.unknown, special.start, special.end, *special.stops, *special.before, *special.after}


def _own_tokens(encoder: TextEncoder, value: Any, fills: bool) -> list[int]:
    ids = encoder.encode(value)["id"].tolist()
    if is_conversation(value) and encoder.template is not None:
        arrays = encoder.encode(value)
        return [int(arrays["start"][0]), *ids]
    if is_conversation(value):  # the last reply ends too
        return [encoder.special.start, *ids, *([encoder.special.end] if value[-1]["role"] == ANSWERS else [])]
    if encoder.special == OWN:
        return [encoder.special.start, *ids]
    return [*encoder.special.before, *ids, *encoder.special.after]


def _tokens_of(tokenizer: Any, value: Any) -> list[int]:
    """What transformers makes of a text, or of a conversation."""
    if not is_conversation(value):
        return list(tokenizer(str(value))["input_ids"])
    waits = value[-1]["role"] != ANSWERS
    text = tokenizer.apply_chat_template(value, tokenize=False, add_generation_prompt=waits)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _compare_written(parity: Parity, model: Model, ask: str, theirs: Any, tokenizer: Any, value: Any) -> None:
    """The numbers after each token; and the answer to the first half of the text, as both write it."""
    encoder = _text(model, ask)
    arrays = encoder.encode(value)
    own, start = arrays["id"].tolist(), int(arrays["start"][0]) if len(arrays["id"]) else encoder.special.start
    ids = [start, *own][: encoder.options.length]
    with torch.inference_mode():
        logits = theirs(torch.tensor([ids])).logits[0].numpy()
    parity.add(logits_of(model, ask, ids).numpy(), logits)
    prompt = ids if is_conversation(value) else ids[: 1 + len(own) // 2]
    prompt = prompt[: max(1, encoder.options.length - _NEW_TOKENS)]
    written = likeliest(model, ask, prompt, _NEW_TOKENS)
    given = torch.tensor([prompt])
    out = theirs.generate(given, attention_mask=torch.ones_like(given), do_sample=False, num_beams=1,
                          max_new_tokens=_NEW_TOKENS, repetition_penalty=1.0)  # fmt: skip
    generated = out[0, len(prompt) :].tolist()
    generated = generated[: len(written)] if written[-1:] == [encoder.special.end] else generated
    first = next((i for i, (a, b) in enumerate(zip(written, generated, strict=False)) if a != b), None)
    gap = float("inf") if first is None else _gap(
        logits_of(model, ask, [*prompt, *written[:first]]).numpy()[-1], written[first], generated[first]
    )  # fmt: skip
    own_text = encoder.decode([i for i in written if i not in _ends_of(encoder)])
    texts = own_text, tokenizer.decode(generated, skip_special_tokens=True)
    parity.answer((written, texts[0]), (generated, texts[1]), gap)


def _compare_filled(parity: Parity, model: Model, ask: str, theirs: Any, tokenizer: Any, value: Any) -> None:
    """The numbers at each token of a text of which one in the middle is hidden, and the word that is put there."""
    encoder = _text(model, ask)
    ids = _own_tokens(encoder, value, fills=True)[: encoder.options.length]
    hidden = len(ids) // 2
    ids[hidden] = encoder.special.mask
    with torch.inference_mode():
        logits = theirs(torch.tensor([ids])).logits[0].numpy()
    ours = logits_of(model, ask, ids, fills=True).numpy()
    parity.add(ours, logits)
    our_token, their_token = int(ours[hidden].argmax()), int(logits[hidden].argmax())
    words = encoder.decode([our_token]), tokenizer.decode([their_token], skip_special_tokens=True)
    parity.answer((our_token, words[0]), (their_token, words[1]), _gap(ours[hidden], our_token, their_token))


def _gap(logits: np.ndarray, own: int, other: int) -> float:
    """By how much one token is likelier than another, relative to the size of all numbers."""
    return float(logits[own] - logits[other]) / (float(np.sqrt(np.mean(np.square(logits)))) or 1.0)


# -- tokenizers ----------------------------------------------------------------------------------------------
def chat_template(encoder: TextEncoder) -> str | None:
    """How a conversation is spelt, in Jinja: a checkpoint's way, or ours where the column learnt from some."""
    if encoder.template is not None:
        return encoder.template.text
    if not encoder.learnt_conversations:
        return None
    start, end = (encoder.tokenizer.id_to_token(i) for i in (encoder.special.start, encoder.special.end))
    if start is None or end is None:
        return None
    return (
        "{% for turn in messages %}" + start + "{{ turn['role'] }}\n{{ turn['content'] }}" + end + "{% endfor %}"
        "{% if add_generation_prompt %}" + start + ANSWERS + "\n{% endif %}"
    )  # fmt: skip


def _write_tokenizer(encoder: TextEncoder, folder: Path, config: dict[str, Any]) -> None:
    """Ours gets what puts the start token before a text; one that came with a checkpoint has its own."""
    tokenizer, special = Tokenizer.from_str(encoder.tokenizer.to_str()), encoder.special
    if special == OWN:
        start = tokenizer.id_to_token(special.start)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, special.start)]
        )
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    named = {"bos_token": special.start, "eos_token": special.end, "unk_token": special.unknown,
             "pad_token": config["pad_token_id"]}  # fmt: skip
    if encoder.token_head.does == "filling":
        named |= {"mask_token": special.mask}
        named |= {"cls_token": special.before[0], "sep_token": special.after[-1]} if special.around else {}
    spelt = {name: tokenizer.id_to_token(i) for name, i in named.items() if i >= 0}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": encoder.options.length,
        **{name: token for name, token in spelt.items() if token is not None},
        **({} if encoder.template is None else encoder.template.tokens),
    }
    if (template := chat_template(encoder)) is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")
