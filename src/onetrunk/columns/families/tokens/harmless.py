"""Is the description of a tokenizer harmless? It may hold regular expressions, and a hostile one costs seconds for a
line of text or panics: only known ones are taken. And what it replaces may make a text a million times as long."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN_PATTERN = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
LLAMA3_PATTERN = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_PATTERN = (  # Mistral's
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KNOWN_PATTERNS = {
    r"\s+",
    r"\s",
    r"\w+",
    " {2,}",
    r"\A +| +\z",
    r"\A▁",
    r"[\s\S]",
    # GPT-2, RoBERTa
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    LLAMA3_PATTERN,
    QWEN_PATTERN,
    # CLIP
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    CLIP_PATTERN,
    TEKKEN_PATTERN,
}  # fmt: skip
_ONE_SIGN = re.compile(r"\[(?:\\[^\w\s]|[^a-zA-Z0-9\s\\\[\]])+\]")  # one of some punctuation marks: it costs nothing
_MOST_GROWTH, _ENDLESS = 64, 1 << 62  # how many times longer a tokenizer may make a text


def check_harmless(description: Any) -> None:
    """Raises ValueError for what is not known to be."""
    model = description.get("model")
    if isinstance(model, dict) and model.get("dropout"):
        raise ValueError(
            f"it leaves merges out at random (dropout: {model['dropout']!r}): a text is read anew each time."
        )
    for pattern in _patterns(description):
        if pattern not in KNOWN_PATTERNS and not _ONE_SIGN.fullmatch(pattern):
            raise ValueError(f"it splits text by a regular expression that is not known to be harmless: {pattern!r}.")
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        if (growth := _growth(description.get(part))) > _MOST_GROWTH:
            raise ValueError(
                f"its {part} makes a text up to {growth:,} times as long, expected at most {_MOST_GROWTH}."
            )


def _growth(node: Any) -> int:
    """How many times longer what a tokenizer's part replaces can make a text: its steps multiply."""
    if isinstance(node, list):
        return min(_ENDLESS, math.prod(map(_growth, node)))
    if not isinstance(node, dict):
        return 1
    if node.get("type") == "Replace":
        pattern, content = node.get("pattern"), node.get("content")
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        return max(1, len(str(content)) // max(1, len(replaced) if isinstance(replaced, str) else 1))
    return min(_ENDLESS, math.prod(_growth(value) for value in node.values() if isinstance(value, dict | list)))


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
