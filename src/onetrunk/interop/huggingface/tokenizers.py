"""Reads the tokenizer of a checkpoint: `tokenizer.json`, or the older `vocab.txt`, `vocab.json` and `merges.txt`.

A tokenizer file may hold regular expressions, and a hostile one costs seconds for a line of text or panics: only
known ones are taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from onetrunk.core.errors import ModelFileError
from onetrunk.storage.strict_json import read_json

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
KNOWN_PATTERNS = {
    r"\s+",
    r"\s",
    " {2,}",
    r"\A +| +\z",
    r"\A▁",
    r"[\s\S]",
    # GPT-2, RoBERTa
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # Llama 3; Qwen 2 and 3
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    # CLIP
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    # Mistral's Tekken
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}  # fmt: skip
_NAMES = ("bos_token", "eos_token", "unk_token", "mask_token", "cls_token", "sep_token", "pad_token")
_MAX_TEXT_BYTES = 64 << 20  # bytes of a vocabulary or merges file


def read_tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a checkpoint's folder, and what its tokens mean, as the encoder keeps it.

    Raises ModelFileError where there is none, where it could cost or run more than reading text should, or where its
    configuration names no token that ends a text.
    """
    settings = _optional(folder / "tokenizer_config.json")
    tokenizer = _tokenizer(folder, {**config, **settings})
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer, _special_tokens(folder, tokenizer, config, settings)


def _tokenizer(folder: Path, settings: Mapping[str, Any]) -> Tokenizer:
    whole = folder / "tokenizer.json"
    if whole.exists():
        description = read_json(whole)
        for pattern in _patterns(description):
            if pattern not in KNOWN_PATTERNS:
                raise ModelFileError(
                    f"{whole} splits text by a regular expression that is not known to be harmless: {pattern!r}."
                )
        return _safely(whole, lambda: Tokenizer.from_str(json.dumps(description)))
    if (folder / "vocab.txt").exists():
        return _safely(folder / "vocab.txt", lambda: _word_pieces(folder / "vocab.txt", settings))
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return _safely(folder / "merges.txt", lambda: _byte_pairs(folder, settings))
    raise ModelFileError(
        f"{folder} has no tokenizer: expected tokenizer.json, vocab.txt, or vocab.json with merges.txt. "
        "Where there is only tokenizer.model, save the tokenizer anew with transformers (save_pretrained)."
    )


def _safely(path: Path, make: Callable[[], Tokenizer]) -> Tokenizer:
    """What `make` reads from a file; ModelFileError where it is no tokenizer."""
    try:
        return make()
    except BaseException as error:
        if not _says_unreadable(error):
            raise
        raise ModelFileError(f"{path} is not a tokenizer that can be read: {error}.") from None


def _says_unreadable(error: BaseException) -> bool:
    """Is it one of the three kinds that tokenizers raises for what it cannot read: a plain `Exception` of no subclass,
    a wrong value or type, or a panic of its Rust code, whose class cannot be imported and is no `Exception`?"""
    panicked = type(error).__name__ == "PanicException"
    return panicked or type(error) is Exception or isinstance(error, ValueError | TypeError)


def _patterns(node: Any) -> Iterator[str]:
    """Every regular expression in a tokenizer's description."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "Regex":
                yield str(value)
            elif key != "vocab":
                yield from _patterns(value)
    elif isinstance(node, list) and node and isinstance(node[0], dict):
        for value in node:
            yield from _patterns(value)


def _word_pieces(path: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """BERT's WordPiece; also the Chinese one, whose ideographs are words."""
    vocabulary = {line.rstrip("\r"): i for i, line in enumerate(_text(path).removesuffix("\n").split("\n"))}
    names = {name: _spelt(settings.get(name)) or f"[{name[:3].upper()}]" for name in _NAMES if name[0] not in "be"}
    names["mask_token"] = _spelt(settings.get("mask_token")) or "[MASK]"
    missing = [names[name] for name in ("unk_token", "cls_token", "sep_token") if names[name] not in vocabulary]
    if missing:
        raise ModelFileError(f"{path} lacks {', '.join(missing)}: it is not the vocabulary of a BERT.")
    unknown, cls, sep = (names[name] for name in ("unk_token", "cls_token", "sep_token"))
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.BertProcessing((sep, vocabulary[sep]), (cls, vocabulary[cls]))
    tokenizer.add_special_tokens([token for token in names.values() if token in vocabulary])
    return tokenizer


def _byte_pairs(folder: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """GPT-2's byte-level BPE, and RoBERTa's, which puts tokens around a text."""
    vocabulary = read_json(folder / "vocab.json")
    lines = _text(folder / "merges.txt").split("\n")
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise ModelFileError(f"{folder / 'merges.txt'}: expected two tokens on each line.")
    merges = [(first, second) for first, second in pairs]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    if settings.get("model_type") == "roberta":
        bos, eos = (
            _spelt(settings.get(name)) or default for name, default in (("cls_token", "<s>"), ("sep_token", "</s>"))
        )
        tokenizer.post_processor = processors.RobertaProcessing(
            (eos, vocabulary[eos]), (bos, vocabulary[bos]), trim_offsets=True, add_prefix_space=False
        )
    special = [_spelt(settings.get(name)) for name in _NAMES] + [
        "<s>",
        "</s>",
        "<mask>",
        "<pad>",
        "<unk>",
        "<|endoftext|>",
    ]
    tokenizer.add_special_tokens(list(dict.fromkeys(token for token in special if token in vocabulary)))
    return tokenizer


def _special_tokens(
    folder: Path, tokenizer: Tokenizer, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Ids by what the files say of them; what the tokenizer puts around a text stands around it here too."""
    spelt = {**_optional(folder / "special_tokens_map.json"), **settings}
    usual = {"unk_token": "[UNK]", "mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}

    def token(*names: str) -> int | None:
        for name in names:
            for candidate in (_spelt(spelt.get(name)), usual.get(name)):
                number = None if candidate is None else tokenizer.token_to_id(candidate)
                if number is not None:
                    return number
        return None

    encoding = tokenizer.encode("a")
    special = encoding.special_tokens_mask
    body = special.index(0) if 0 in special else len(special)
    before, after = encoding.ids[:body], encoding.ids[len(special) - special[::-1].index(0) :] if 0 in special else []
    generation = _optional(folder / "generation_config.json")
    ends = _ids(generation.get("eos_token_id")) or _ids(config.get("eos_token_id"))
    ends = ends or [i for i in (token("eos_token", "sep_token"), *after[-1:]) if i is not None][:1]
    if not ends:
        raise ModelFileError(f"{folder}: none of its files names the token that ends a text (eos_token_id).")
    starts = _ids(config.get("bos_token_id")) or [
        i for i in (token("bos_token", "cls_token"), *before[:1]) if i is not None
    ]
    unknown = token("unk_token")
    masked = token("mask_token")
    return {
        "unknown": -1 if unknown is None else unknown,
        "start": (starts or ends)[0],
        "end": ends[0],
        "mask": masked if masked is not None else unknown if unknown is not None else ends[0],
        "before": before,
        "after": after,
        "stops": ends[1:],
        "never": [],
    }


def _ids(value: Any) -> list[int]:
    ids = value if isinstance(value, list) else [value]
    return [i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0]


def _spelt(token: Any) -> str | None:
    """A token is text, or an object that holds it."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise ModelFileError(f"{path} has {path.stat().st_size:,} bytes; at most {_MAX_TEXT_BYTES:,}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path} is not UTF-8 text: {error}.") from None
