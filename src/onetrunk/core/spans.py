"""Many rows, some at a time: what is made of all of them at once would lie in memory beside them."""

from __future__ import annotations

from collections.abc import Iterator

_AT_ONCE = 1 << 18


def spans(n: int) -> Iterator[slice]:
    """Neighbouring positions of n, some at a time."""
    return (slice(first, min(first + _AT_ONCE, n)) for first in range(0, n, _AT_ONCE))
