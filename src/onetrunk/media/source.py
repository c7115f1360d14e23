"""Where a picture, a film or a sound comes from: a file, or its bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from onetrunk.core.errors import BadValueError

Source = str | Path | bytes


def source_of(value: Any, expected: str) -> tuple[Source, str]:
    """Of a path, bytes, or a `{"bytes", "path"}` dict: the path or the bytes, and what a message calls it. Raises
    BadValueError, which names what was `expected`."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else Path(value.get("path") or "")
    if not isinstance(value, str | Path | bytes):
        raise BadValueError(f"expected {expected}, found {type(value).__name__}")
    return value, "the bytes" if isinstance(value, bytes) else str(value)


def as_file(source: Source) -> io.BytesIO | str:
    """What a decoder opens."""
    return io.BytesIO(source) if isinstance(source, bytes) else str(source)
