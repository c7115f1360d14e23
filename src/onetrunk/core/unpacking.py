"""Stops bombs: files that are small as long as they are packed."""

from __future__ import annotations

_FREE = 256 << 20  # bytes that any file may unpack to
_MOST_TIMES = 500  # its own size: what repeats itself most, like tables of one value, stays below


class Unpacked:
    """Counts the bytes that a packed file of `packed` bytes gives while it is unpacked: it may give `free` bytes in any
    case, and up to `times` its own."""

    def __init__(self, packed: int, free: int = _FREE, times: int = _MOST_TIMES) -> None:
        self.packed, self.free, self.times, self.bytes = packed, free, times, 0

    def bomb(self, more: int) -> str | None:
        """Counts so many bytes more; why the file is a bomb, where it is one."""
        self.bytes += more
        if self.bytes <= max(self.free, self.times * self.packed):
            return None
        return (
            f"its {self.packed:,} bytes unpack to {self.bytes:,} or more, over {self.times} times as many, as no "
            "useful data does. If it is meant, unpack it yourself and give what you get"
        )
