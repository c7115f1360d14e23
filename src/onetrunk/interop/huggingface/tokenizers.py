"""Reads the tokenizer of a checkpoint: `tokenizer.json`, or the older `vocab.txt`, `vocab.json` and `merges.txt`.

What a file says is taken only where it is known to be harmless (`columns.families.tokens.harmless`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from onetrunk.columns.families.tokens.harmless import CLIP_PATTERN, QWEN_PATTERN, check_harmless
from onetrunk.columns.text.encoder import says_unreadable
from onetrunk.core.errors import ModelFileError
from onetrunk.interop.huggingface.unsupported import OF_TOKENIZERS, refuse_unknown
from onetrunk.storage.regular import size_of_file
from onetrunk.storage.strict_json import read_json

T = TypeVar("T")

_NAMES = ("bos_token", "eos_token", "unk_token", "mask_token", "cls_token", "sep_token", "pad_token")
_MAX_TEXT_BYTES = 64 << 20  # bytes of a vocabulary or merges file


@dataclass(frozen=True)
class _BytePairs:
    """A class of byte-level tokenizers whose files do not say how it splits and norms text."""

    names: Mapping[str, str]  # of special tokens, where the configuration does not say
    pattern: str = ""  # GPT-2's
    normalizer: normalizers.Normalizer | None = None
    suffix: str = ""  # of a word's last piece
    around: tuple[str, ...] = ()  # special tokens put before and after a text


_END = "<|endoftext|>"
_BYTE_PAIRS = {
    "GPT2Tokenizer": _BytePairs({"bos_token": _END, "eos_token": _END, "unk_token": _END}),
    "RobertaTokenizer": _BytePairs(
        {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>",
         "mask_token": "<mask>", "pad_token": "<pad>"},
        around=("cls_token", "sep_token"),
    ),
    "Qwen2Tokenizer": _BytePairs(
        {"eos_token": _END, "unk_token": _END, "pad_token": _END}, QWEN_PATTERN, normalizers.NFC()
    ),
    "CLIPTokenizer": _BytePairs(
        {"bos_token": "<|startoftext|>", "eos_token": _END, "unk_token": _END, "pad_token": _END},
        CLIP_PATTERN,
        normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        ),
        "</w>",
        ("bos_token", "eos_token"),
    ),
}  # fmt: skip
_USUAL_CLASS = {"gpt2": "GPT2Tokenizer", "roberta": "RobertaTokenizer", "qwen2": "Qwen2Tokenizer",
                "qwen3": "Qwen2Tokenizer", "clip_text_model": "CLIPTokenizer"}  # fmt: skip
_HONOURED = {*_NAMES, "tokenizer_class", "added_tokens_decoder", "add_bos_token", "add_eos_token", "add_prefix_space",
             "do_lower_case", "strip_accents", "tokenize_chinese_chars", "chat_template", "additional_special_tokens",
             "extra_special_tokens"}  # fmt: skip


@dataclass(frozen=True)
class Words:
    """A checkpoint's tokenizer, what its tokens mean, as the encoder keeps it, and how it spells a conversation."""

    tokenizer: Tokenizer
    special: dict[str, Any]
    template: dict[str, Any] | None


def read_tokenizer(folder: Path, config: Mapping[str, Any], filled: bool = False) -> Words:
    """What is said of words in a checkpoint's folder. `filled`: padding stands behind every text, and is seen.

    Raises ModelFileError where there is no tokenizer, where it could cost or run more than reading text should, where
    its configuration says what nothing here honours, or names no token that ends a text.
    """
    settings = {**_optional(folder / "special_tokens_map.json"), **_optional(folder / "tokenizer_config.json")}
    refuse_unknown(folder / "tokenizer_config.json", settings, _HONOURED | OF_TOKENIZERS, "texts do")
    tokenizer = _tokenizer(folder, config, settings)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    # The configuration of a model that only reads names ends of another tokenizer (SigLIP's, those of CLIP).
    special = _special_tokens(folder, tokenizer, {} if filled else config, settings)
    if filled:
        special["fill"] = _filling(folder, tokenizer, config, settings)
    return Words(tokenizer, special, _template(folder, settings))


def _filling(folder: Path, tokenizer: Tokenizer, config: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """The token of padding, which stands behind a text."""
    side = settings.get("padding_side", "left" if settings.get("tokenizer_class") == "Siglip2Tokenizer" else "right")
    if side != "right":
        raise ModelFileError(
            f"{folder / 'tokenizer_config.json'} says padding_side: {side!r}, and its model sees padding; only 'right' "
            "can be read."
        )
    spelt = _spelt(settings.get("pad_token"))
    number = config["pad_token_id"] if spelt is None else tokenizer.token_to_id(spelt)
    if not isinstance(number, int):
        raise ModelFileError(
            f"{folder}: none of its files names the token of padding (pad_token), which its model sees."
        )
    return number


def _template(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Its text, and the special tokens that it may name; of several, the default."""
    own, template = folder / "chat_template.jinja", settings.get("chat_template")
    if own.exists():
        template = _text(own)
    elif isinstance(template, list):
        template = next((each.get("template") for each in template if each.get("name") == "default"), None)
    if template is None or template == "":
        return None
    if not isinstance(template, str):
        raise ModelFileError(f"{folder / 'tokenizer_config.json'}: its chat_template is no text.")
    return {"template": template, "tokens": {name: token for name in _NAMES if (token := _spelt(settings.get(name)))}}


def _tokenizer(folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> Tokenizer:
    tokenizer = _written(folder, config, settings)
    for i, token in sorted(_added(folder, settings).items()):
        if tokenizer.token_to_id(token.content) not in (None, i):
            raise ModelFileError(
                f"{folder}: its token {token.content!r} is number {tokenizer.token_to_id(token.content)}, and number "
                f"{i} where tokens are added (added_tokens). The files are not of one tokenizer."
            )
        if tokenizer.token_to_id(token.content) is None and tokenizer.get_vocab_size() != i:
            raise ModelFileError(
                f"{folder} adds the token {token.content!r} as number {i}, and its tokenizer has "
                f"{tokenizer.get_vocab_size()} before: numbers between are missing."
            )
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    tokenizer.add_special_tokens(_more(settings))
    flags = {settings.get("add_bos_token"), settings.get("add_eos_token")} - {None}
    if flags and not (folder / "tokenizer.json").exists():  # which says itself what stands around a text
        _put_around(tokenizer, settings)
    return tokenizer


def _more(settings: Mapping[str, Any]) -> list[str]:
    """Special tokens that it names beside those that have a meaning."""
    lists = [settings.get(key) or [] for key in ("additional_special_tokens", "extra_special_tokens")]
    return [token for each in lists if isinstance(each, list) for one in each if (token := _spelt(one)) is not None]


def _written(folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> Tokenizer:
    """As its files hold it, without what its configuration adds."""
    whole = folder / "tokenizer.json"
    if whole.exists():
        description = read_json(whole)
        try:
            check_harmless(description)
        except ValueError as error:
            raise ModelFileError(f"{whole}: {error}") from None
        _override(description, settings)
        _lowercase(description, settings)
        return _safely(whole, lambda: Tokenizer.from_str(json.dumps(description)))
    if (folder / "vocab.txt").exists():
        return _safely(folder / "vocab.txt", lambda: _word_pieces(folder / "vocab.txt", settings))
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        name = settings.get("tokenizer_class")
        if name in (None, "PreTrainedTokenizerFast", "TokenizersBackend"):  # which say nothing
            name = _USUAL_CLASS.get(str(config["model_type"]))
        kind = _BYTE_PAIRS.get(str(name).removesuffix("Fast"))
        if kind is None:
            raise ModelFileError(
                f"{folder} has vocab.json and merges.txt of a {name or 'nameless tokenizer'}; those of "
                f"{', '.join(_BYTE_PAIRS)} can be read. Save the tokenizer anew with transformers (save_pretrained)."
            )
        return _safely(folder / "merges.txt", lambda: _byte_pairs(folder, kind, settings))
    raise ModelFileError(
        f"{folder} has no tokenizer: expected tokenizer.json, vocab.txt, or vocab.json with merges.txt. "
        "Where there is only a sentencepiece model (tokenizer.model, spiece.model), save the tokenizer anew with "
        "transformers (save_pretrained)."
    )


def _added(folder: Path, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Tokens that its configuration, or an old file of its own, adds to the tokenizer's."""
    out = {}
    for content, i in _optional(folder / "added_tokens.json").items():
        if isinstance(i, int):
            named = {*(_spelt(settings.get(name)) for name in _NAMES), *_more(settings)}
            out[i] = AddedToken(content, special=content in named, normalized=content not in named)
    for key, token in (settings.get("added_tokens_decoder") or {}).items():
        if str(key).isdigit() and (spelt := _spelt(token)) is not None:
            flags = {
                k: bool(token[k]) for k in ("lstrip", "rstrip", "single_word", "normalized", "special") if k in token
            }
            out[int(key)] = AddedToken(spelt, **flags)
    return out


def _lowercase(description: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """SigLIP's classes make letters small, whether their file says so or not."""
    name = str(settings.get("tokenizer_class")).removesuffix("Fast")
    small = name == "Siglip2Tokenizer" or (name == "SiglipTokenizer" and settings.get("do_lower_case", True))
    steps = [step.get("type") for step in _steps(description.get("normalizer"), "normalizers")]
    if small and "Lowercase" not in steps:
        rest = [] if description.get("normalizer") is None else [description["normalizer"]]
        description["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *rest]}


def _override(description: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """What the configuration says of cases, accents and spaces counts, not what the file says."""
    options_of = {"lowercase": "do_lower_case", "strip_accents": "strip_accents",
            "handle_chinese_chars": "tokenize_chinese_chars"}  # fmt: skip
    for step in _steps(description.get("normalizer"), "normalizers"):
        if step.get("type") == "BertNormalizer":
            step.update({ours: settings[key] for ours, key in options_of.items() if key in settings})
        elif step.get("type") == "Lowercase" and settings.get("do_lower_case") is False:
            raise ModelFileError("its tokenizer makes letters small, its configuration says do_lower_case: false")
    space = settings.get("add_prefix_space")
    for step in _steps(description.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") == "ByteLevel" and space is not None:
            step["add_prefix_space"] = space
        elif step.get("type") == "Metaspace" and space is False:
            step["prepend_scheme"] = "never"


def _steps(part: Any, key: str) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        for step in part.get(key) or []:
            yield from _steps(step, key)


def _put_around(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """The tokens that begin and end a text, as far as the configuration says that they are put there."""
    around = []
    for key, name in (("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")):
        token = _spelt(settings.get(name))
        around.append([token] if settings.get(key) and token is not None else [])
    for token in (token for each in around for token in each):
        if tokenizer.token_to_id(token) is None:
            raise ModelFileError(f"its tokenizer has no token {token!r}, which is put around every text")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*around[0], "$A", *around[1]],
        special_tokens=[(token, tokenizer.token_to_id(token)) for each in around for token in each],
    )


def _safely(path: Path, make: Callable[[], T]) -> T:
    """What `make` makes of a file; ModelFileError where it is no tokenizer."""
    try:
        return make()
    except BaseException as error:
        if not says_unreadable(error):
            raise
        raise ModelFileError(f"{path} is not a tokenizer that can be read: {error}.") from None


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


def _byte_pairs(folder: Path, kind: _BytePairs, settings: Mapping[str, Any]) -> Tokenizer:
    """A byte-level BPE, as this class of tokenizers splits and norms text."""
    vocabulary = read_json(folder / "vocab.json")
    lines = _text(folder / "merges.txt").split("\n")
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise ModelFileError(f"{folder / 'merges.txt'}: expected two tokens on each line.")
    merges = [(first, second) for first, second in pairs]
    names = {name: _spelt(settings.get(name)) or usual for name, usual in kind.names.items()}
    model: dict[str, Any] = {"end_of_word_suffix": kind.suffix, "unk_token": names["unk_token"]} if kind.suffix else {}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False, **model))
    if kind.normalizer is not None:
        tokenizer.normalizer = kind.normalizer
    space = bool(settings.get("add_prefix_space", False))
    if kind.pattern:
        removed = {"behavior": "removed", "invert": True} if kind.suffix else {"behavior": "isolated"}
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(kind.pattern), **removed),
                pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=bool(kind.suffix)),
            ]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    tokenizer.decoder = decoders.ByteLevel()
    if kind.around:
        before, after = (names[name] for name in kind.around)
        tokenizer.post_processor = processors.RobertaProcessing(
            (after, vocabulary[after]), (before, vocabulary[before]), trim_offsets=True, add_prefix_space=space
        )
    special = [names.get(name) or _spelt(settings.get(name)) for name in _NAMES]
    tokenizer.add_special_tokens(list(dict.fromkeys(token for token in special if token in vocabulary)))
    return tokenizer


def _special_tokens(
    folder: Path, tokenizer: Tokenizer, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Ids by what the files say of them; what the tokenizer puts around a text stands around it here too."""
    spelt = settings
    usual = {"unk_token": "[UNK]", "mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}

    def token(*names: str) -> int | None:
        for name in names:
            for candidate in (_spelt(spelt.get(name)), usual.get(name)):
                number = None if candidate is None else tokenizer.token_to_id(candidate)
                if number is not None:
                    return number
        return None

    encoding = _safely(folder / "tokenizer.json", lambda: tokenizer.encode("a"))
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
        "never": _ids(generation.get("suppress_tokens")),
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
    if (size := size_of_file(path)) > _MAX_TEXT_BYTES:
        raise ModelFileError(f"{path} has {size:,} bytes; at most {_MAX_TEXT_BYTES:,}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path} is not UTF-8 text: {error}.") from None
