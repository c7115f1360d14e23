"""What stands in a request's body: JSON of strangers, read strictly; and base64 and data URLs in it."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any

import pyarrow as pa

from onetrunk.serving.request_errors import RequestError, bad
from onetrunk.serving.request_limits import Limits

_DATA_URL = re.compile(r"data:([\w.+-]+/(?:[\w.+-]+|\*))?(?:;[\w.=+-]+)*;base64,", re.ASCII)
_HALF = re.compile("[\ud800-\udfff]")  # of a pair of code units that are one character only together


def parse_object(raw: bytes, limits: Limits) -> dict[str, Any]:
    """One JSON object, of which nothing is ambiguous. Raises RequestError."""
    try:
        data = json.loads(raw, object_pairs_hook=_unique, parse_constant=_not_finite, parse_float=_finite,
                          parse_int=_whole)  # fmt: skip
    except RecursionError:
        raise bad(f"The body is nested too deeply; at most {limits.json_depth} levels are read.") from None
    except ValueError as error:  # UnicodeDecodeError is one, and what Python says of a number of 5,000 digits
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).partition(";")[0]
        raise bad(f"The body is not valid JSON: {reason[:200]}.") from None
    if not isinstance(data, dict):
        raise bad(f"The body should be a JSON object, found {_kind(data)}.")
    _check(data, limits)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return out


def _not_finite(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def _check(data: Any, limits: Limits) -> None:
    """How deep and how much it is, and that its texts are Unicode's."""
    values, count = [(data, 1)], 0
    while values:
        value, depth = values.pop()
        count += 1
        if count + len(values) > limits.json_values:
            raise bad(f"The body holds more than {limits.json_values:,} values. Send fewer rows at a time.")
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, dict | list):
            if depth > limits.json_depth:
                raise bad(f"The body is nested too deeply; at most {limits.json_depth} levels are read.")
            if isinstance(value, dict):
                for key in value:
                    _check_text(key)
            values += [(v, depth + 1) for v in (value.values() if isinstance(value, dict) else value)]


def _check_text(text: str) -> None:
    if not text.isascii() and _HALF.search(text):
        raise bad("A text holds half of a surrogate pair, which is no character.")


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def decoded_file(text: str, where: str) -> tuple[bytes, str | None]:
    """The bytes of a file that is sent as a data URL or as base64, and the kind of media that the URL says, like
    image. Nothing is ever fetched, and nothing opened by its path."""
    kind = None
    head = text[:256]
    if head.startswith("data:"):
        if (url := _DATA_URL.match(head)) is None:
            raise bad(f"{where}: expected a data URL with base64, like data:image/png;base64,...")
        kind = url[1].partition("/")[0].lower() if url[1] else None
        text = text[url.end() :]
    elif "://" in head:
        raise bad(f"{where}: this server fetches nothing. Send the file itself, as a data URL with base64.")
    try:
        return base64.b64decode(text, validate=True), kind
    except (binascii.Error, ValueError):
        raise bad(f"{where}: expected a file as base64, or as a data URL with base64.") from None


def unpacked(raw: bytes, encoding: str, limits: Limits) -> bytes:
    """A body that came compressed, gzip or zstd; never more of it than is allowed."""
    kinds = {"gzip": "gzip", "zstd": "zstd"}
    if encoding not in kinds:
        raise RequestError(415, f"A body may be sent as it is, or as gzip or zstd; found {encoding[:50]!r}.")
    try:
        with pa.CompressedInputStream(pa.BufferReader(raw), kinds[encoding]) as stream:
            data = stream.read(limits.body_bytes + 1)
    except (OSError, pa.ArrowException):
        raise bad(f"The body is not {encoding}, as its Content-Encoding says.") from None
    if len(data) > limits.body_bytes:
        raise too_large(limits)
    return bytes(data)


def too_large(limits: Limits) -> RequestError:
    return RequestError(
        413, f"The body is larger than {limits.body_bytes:,} bytes. Send fewer rows at a time.", code="body_too_large"
    )
