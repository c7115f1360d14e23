"""Escapes control characters in text from outside (names, values, paths) before a terminal shows it."""

from __future__ import annotations

import json
import re
from typing import Any

_RAW = re.compile("[\x7f-\x9f\ud800-\udfff]")  # what JSON leaves as it is, and a terminal or UTF-8 does not


def printable(text: str) -> str:
    """Control characters from data or names must not move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def json_line(data: Any) -> str:
    """JSON on one line, in which other languages stay readable, and neither control characters nor half of a surrogate
    pair stand as they are."""
    return escaped_json(json.dumps(data, ensure_ascii=False, default=str))


def escaped_json(text: str) -> str:
    """JSON whose strings hold such characters as escapes."""
    return _RAW.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def ascii_json(text: str) -> str:
    """JSON with an escape for every character that is not ASCII: the same values, for an encoding that lacks them."""
    return re.sub("[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
