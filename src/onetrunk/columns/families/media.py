"""What columns of pictures, films and sounds share: values that have to be opened, and some of which cannot be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from onetrunk.core.errors import BadValueError

T = TypeVar("T")


def opened_sample(values: Sequence[Any], open_value: Callable[[Any], T], size: int) -> Iterator[T | None]:
    """About `size` of the values, evenly over all, opened one after the other; None for one that cannot be read."""
    for value in values[:: max(1, len(values) // size)]:
        try:
            opened = open_value(value)
        except BadValueError:
            yield None
        else:
            yield opened


def fingerprint_of(value: Any, open_value: Callable[[Any], T], content: Callable[[T], bytes]) -> str:
    """Equal for values of equal content, however they are stored; of what cannot be read, for equal values."""
    try:
        opened = open_value(value)
    except BadValueError:
        return f"unreadable {value!r}"
    return hashlib.sha1(content(opened)).hexdigest()
