"""JSON of files: strict in both directions, with a cap on what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onetrunk.core.errors import ModelFileError
from onetrunk.storage.regular import RESTORE, size_of_file

_MAX_JSON_BYTES = 64 << 20


def write_json(path: Path, data: Any) -> None:
    """Strict JSON: numbers that are not finite are a bug of the caller and raise ValueError."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_json_whole(path: Path, data: Any) -> None:
    """As `write_json`; what was there before stays until all of it is written."""
    fresh = path.with_name(f"{path.name}.tmp")
    write_json(fresh, data)
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object. Raises ModelFileError when it is missing, too big, malformed or has a key twice."""
    size = size_of_file(path)
    if size > _MAX_JSON_BYTES:
        raise ModelFileError(f"{path} has {size:,} bytes; at most {_MAX_JSON_BYTES:,}.")
    try:
        return parse_json(path, path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}. {RESTORE}") from None


def parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    """One JSON object; `path` is where the error says that it is."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs):
            raise ValueError("a key stands twice")
        return out

    def not_finite(name: str) -> None:
        raise ValueError(f"{name} is not a JSON number")

    try:
        data = json.loads(raw, object_pairs_hook=unique, parse_constant=not_finite)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ModelFileError(f"{path} is not valid JSON: {error}. {RESTORE}") from None
    if not isinstance(data, dict):
        raise ModelFileError(f"{path} should hold a JSON object, found a {type(data).__name__}. {RESTORE}")
    return data
