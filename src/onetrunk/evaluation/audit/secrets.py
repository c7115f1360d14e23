"""Secrets in text: what looks like a key or a password. What is found is shown by its first characters only."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

_PATTERNS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})\b",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "an API key (sk-)": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,}\b",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>]+:[^\s/@\"'<>]+@[^\s\"'<>]+",
    "a bearer token": r"\b[Bb]earer\s+[A-Za-z0-9._~+/-]{20,}",
}
_KNOWN = re.compile("|".join(f"(?P<p{i}>{pattern})" for i, pattern in enumerate(_PATTERNS.values())))
_KINDS = list(_PATTERNS)
_SECRET_KEY = re.compile(
    r"(?:api|access|auth|private|secret|client)[_-]?(?:key|token|secret)|password|passwd|secret", re.IGNORECASE
)
_HOME = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\\\?Users\\\\?)[\w.-]+")
_TOKEN = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{24,200}={0,2}(?![A-Za-z0-9+/_=-])")
_BITS = 4.2  # of entropy for each character: words have less, random letters and digits more
_DIGESTS = ("sha256", "rows", "png", "wav", "splits")  # keys of JSON whose values are digests or pictures
_SHOWN = 4


def secrets_in_text(text: str) -> Iterator[tuple[str, str, bool]]:
    """What it looks like, its first characters, and whether it is one by its form (and not only as random as one)."""
    for match in _KNOWN.finditer(text):
        yield _KINDS[int((match.lastgroup or "p0")[1:])], _redacted(match[0]), True
    for match in _HOME.finditer(text):
        yield "a path of somebody's machine", match[0], False
    for match in _TOKEN.finditer(text):
        if is_random(match[0]) and not _KNOWN.search(match[0]):
            yield "a random text, as keys are", _redacted(match[0]), False


def secrets_in_json(data: Any, path: str = "") -> Iterator[tuple[str, str, str, bool]]:
    """The same of every text of a JSON value, with the path to it first; digests and pictures are passed over."""
    if isinstance(data, dict):
        for key, value in data.items():
            where = f"{path}.{key}" if path else str(key)
            if isinstance(value, str) and value and _SECRET_KEY.fullmatch(str(key)):
                yield where, "a value under a name of secrets", _redacted(value), True
            elif key not in _DIGESTS:
                yield from secrets_in_json(value, where)
            yield from ((where, *found) for found in secrets_in_text(str(key)))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from secrets_in_json(value, f"{path}[{i}]")
    elif isinstance(data, str):
        yield from ((path, *found) for found in secrets_in_text(data))


def is_random(token: str) -> bool:
    """Letters of both cases and digits, as mixed as chance would mix them."""
    kinds = (any(map(kind, token)) for kind in (str.islower, str.isupper, str.isdigit))
    return all(kinds) and entropy(token) >= _BITS


def entropy(text: str) -> float:
    """Of its characters, in bits each (Shannon 1948)."""
    n = len(text)
    return -sum(count / n * math.log2(count / n) for count in Counter(text).values())


def _redacted(text: str) -> str:
    return f"{text[:_SHOWN]}… ({len(text)} characters)"
