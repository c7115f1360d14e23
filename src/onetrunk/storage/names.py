"""File names made of names from outside, like a column's."""

from __future__ import annotations

import hashlib


def file_name(text: str) -> str:
    """A part of a file's name for any text (a column's name): no two are alike, none leads elsewhere."""
    raw = text.encode("utf-8", "surrogatepass")
    escaped = "".join(
        c if c.isalnum() or c in "-_ " else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))
        for c in text
    )
    if len(escaped.encode()) <= 100 and escaped == escaped.strip():
        return escaped
    return f"{escaped[:20].strip()}%{hashlib.sha256(raw).hexdigest()[:16]}"
