"""Escapes control characters in text from outside (names, values, paths) before a terminal shows it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Control characters from data or names must not move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
