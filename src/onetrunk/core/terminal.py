"""Text from outside (names, values, paths) as a terminal shows it: as it stands, whatever it holds."""

from __future__ import annotations


def printable(text: str) -> str:
    """Control characters from data or names must not move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
