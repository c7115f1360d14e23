"""Text that may be printed on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters written out: those of data or names must not move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
