"""What GGUF says of a tokenizer: byte-level pieces, or those of SentencePiece, whose merges are scores there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onetrunk.columns.families.tokens.harmless import LLAMA3_PATTERN, QWEN_PATTERN, TEKKEN_PATTERN
from onetrunk.columns.families.tokens.special_tokens import OWN
from onetrunk.columns.text.encoder import TextEncoder
from onetrunk.core.errors import UsageError
from onetrunk.interop.huggingface.writer import chat_template

_PRE = {QWEN_PATTERN: "qwen2", LLAMA3_PATTERN: "llama-bpe", TEKKEN_PATTERN: "tekken"}  # how it splits a text
_SPACE = "▁"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_NO_MERGE = -1e6  # of what is no product of a merge


@dataclass(frozen=True)
class Pieces:
    """How llama.cpp makes tokens of a text."""

    model: str  # its name there: gpt2 is of bytes, llama is SentencePiece's
    pre: str  # how it splits a text before
    space_first: bool = False  # is a space put before a text?


def pieces_of(encoder: TextEncoder, column: str) -> Pieces:
    """UsageError for a tokenizer that the file does not hold, by name."""
    spec = json.loads(encoder.tokenizer.to_str())
    kind = spec["model"]["type"]
    if kind == "BPE" and encoder.options.unit == "bpe":
        found = _sentence_pieces(spec) if spec["model"].get("byte_fallback") else _byte_level(spec)
        if isinstance(found, Pieces):
            return found
        why = found
    else:
        why = f"a {kind} tokenizer" if encoder.options.unit == "bpe" else f"unit: {encoder.options.unit}"
    raise UsageError(
        f"The tokenizer of {column!r} is not one that is written as GGUF ({why}): expected byte-level pieces (unit: "
        "bpe), split as GPT-2, Llama 3, Qwen or Tekken does, or SentencePiece's BPE with a token for each byte. "
        "Of others, llama.cpp's convert_hf_to_gguf.py makes GGUF of --to huggingface."
    )


def _byte_level(spec: dict[str, Any]) -> Pieces | str:
    steps = _steps(spec["pre_tokenizer"], "pretokenizers")
    if not any(step.get("type") == "ByteLevel" and not step.get("add_prefix_space") for step in steps):
        return "its pieces are not of bytes"
    patterns = [step["pattern"].get("Regex") for step in steps if step.get("type") == "Split"]
    if not patterns and all(step.get("use_regex", True) for step in steps):
        return Pieces("gpt2", "gpt-2")
    if len(patterns) == 1 and patterns[0] in _PRE:
        return Pieces("gpt2", _PRE[patterns[0]])
    return "it splits a text in another way"


def _sentence_pieces(spec: dict[str, Any]) -> Pieces | str:
    vocabulary = spec["model"]["vocab"]
    if any(byte not in vocabulary for byte in _BYTES):
        return "some bytes have no token"
    first = _space_first(_steps(spec["normalizer"], "normalizers"), _steps(spec["pre_tokenizer"], "pretokenizers"))
    if first is None:
        return "it normalises or splits a text in another way than Llama's and Gemma's"
    merges = _merges(spec)
    if list(dict.fromkeys(one + other for one, other in merges)) != _in_runs(one + other for one, other in merges):
        return "its merges are not in the order of what they make"
    known, usual = set(merges), vocabulary.keys() - set(_BYTES) - {token["content"] for token in spec["added_tokens"]}
    for token in (token for token in usual if len(token) > 1):
        for i in range(1, len(token)):
            if token[:i] in usual and token[i:] in usual and (token[:i], token[i:]) not in known:
                return f"its merges leave out how {token[:i]!r} and {token[i:]!r} make {token!r}"
    return Pieces("llama", "default", first)


def _in_runs(products: Iterator[str]) -> list[str]:
    """Each product once for every run of it."""
    out: list[str] = []
    for product in products:
        if not out or out[-1] != product:
            out.append(product)
    return out


def _space_first(norms: list[dict[str, Any]], splits: list[dict[str, Any]]) -> bool | None:
    """Is a space put before a text? None where spaces are treated in another way than SentencePiece does."""
    kinds = [step.get("type") for step in norms]
    spaced = bool(norms) and norms[-1].get("pattern") == {"String": " "} and norms[-1].get("content") == _SPACE
    unsplit = not splits or (
        len(splits) == 1 and splits[0].get("type") == "Split" and splits[0]["pattern"] == {"String": " "}
    )
    if kinds == ["Prepend", "Replace"] and norms[0].get("prepend") == _SPACE and spaced and unsplit:
        return True
    if kinds == ["Replace"] and spaced and unsplit:
        return False
    if not norms and len(splits) == 1 and splits[0].get("type") == "Metaspace":
        plain = splits[0].get("replacement") == _SPACE and splits[0].get("split") is False
        return splits[0].get("prepend_scheme", "always") != "never" if plain else None
    return None


def _steps(part: Any, key: str) -> list[dict[str, Any]]:
    if not part:
        return []
    return [inner for step in part[key] for inner in _steps(step, key)] if part["type"] == "Sequence" else [part]


def _merges(spec: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in spec["model"]["merges"])
    return [(one, other) for one, other in pairs]


def add_tokenizer(out: Any, encoder: TextEncoder, pieces: Pieces, kinds: Any) -> None:
    """Says it with a `GGUFWriter`; `kinds` are its token types."""
    spec, special = json.loads(encoder.tokenizer.to_str()), encoder.special
    added = {token["id"]: token["special"] for token in spec["added_tokens"]}
    tokens = dict(sorted((i, token) for token, i in encoder.tokenizer.get_vocab().items()))
    types = {None: kinds.NORMAL, True: kinds.CONTROL, False: kinds.USER_DEFINED}
    each = [types[added.get(i)] if i in tokens else kinds.UNUSED for i in range(encoder.size)]
    listed = [tokens.get(i, f"[PAD{i}]") for i in range(encoder.size)]  # rows of the table that no token has are spare
    out.add_tokenizer_model(pieces.model)
    out.add_tokenizer_pre(pieces.pre)
    out.add_token_list(listed)
    if pieces.model == "llama":
        out.add_token_scores(scores_of(encoder))
        out.add_add_space_prefix(pieces.space_first)
        each = [kinds.BYTE if token in _BYTES else kind for token, kind in zip(listed, each, strict=True)]
        if special.unknown >= 0:
            each[special.unknown] = kinds.UNKNOWN
    else:
        out.add_token_merges([" ".join(pair) for pair in _merges(spec)])
    out.add_token_types(each)
    out.add_bos_token_id(special.start)
    out.add_eos_token_id(special.end)
    if special.unknown >= 0:
        out.add_unk_token_id(special.unknown)
    out.add_pad_token_id(special.end)
    out.add_add_bos_token(begins(encoder))
    if (template := chat_template(encoder)) is not None:
        out.add_chat_template(template)


def scores_of(encoder: TextEncoder) -> list[float]:
    """Of each token: what is made first has the highest."""
    merges = _merges(json.loads(encoder.tokenizer.to_str()))
    rank = {one + other: -float(i) for i, (one, other) in reversed(list(enumerate(merges)))}
    names = {i: token for token, i in encoder.tokenizer.get_vocab().items()}
    return [rank.get(names.get(i, ""), _NO_MERGE) for i in range(encoder.size)]


def begins(encoder: TextEncoder) -> bool:
    """Does a text that is told begin with the start token there? Where a checkpoint's own tokenizer does not put it, it
    does not."""
    return encoder.special == OWN or encoder.special.before == (encoder.special.start,)
