"""The bytes that every token of a tokenizer stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from tokenizers import Tokenizer

from onetrunk.core.errors import UsageError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def bytes_of_tokens(tokenizer: Tokenizer, size: int, controls: Collection[int]) -> list[bytes]:
    """Of all `size` tokens; empty for those that are no text: `controls`, and numbers without a token. Raises
    UsageError for a tokenizer of which a token's bytes depend on its neighbours."""
    kinds = _kinds(json.loads(tokenizer.to_str())["decoder"])
    out, added = [b""] * size, tokenizer.get_added_tokens_decoder() if "ByteLevel" in kinds else {}
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if number not in controls and number < size:  # what was added is a word as it is written
            out[number] = token.encode() if number in added else _spelt(token, kinds)
    return out


def _kinds(decoder: dict[str, Any] | None) -> set[str]:
    if decoder is None:
        raise UsageError(
            "The tokens of this text column are joined by spaces; a grammar needs one that joins them as they are."
        )
    kinds = {each["type"] for each in decoder.get("decoders", [decoder])}
    if not kinds & {"ByteLevel", "ByteFallback", "Metaspace", "Fuse"}:
        raise UsageError(
            f"The tokenizer of this text column joins its tokens in a way ({', '.join(sorted(kinds))}) that a grammar "
            "cannot follow: expected pieces of bytes, or characters."
        )
    if any(each["type"] == "Replace" for each in decoder.get("decoders", [decoder])):
        kinds.add("Metaspace")  # spelt as a replacement of its sign
    return kinds


def _spelt(token: str, kinds: set[str]) -> bytes:
    if "ByteLevel" in kinds:
        try:
            return bytes(_BYTE_OF[sign] for sign in token)
        except KeyError:  # a sign that stands for no byte
            return token.encode()
    if "ByteFallback" in kinds and (byte := _BYTE.fullmatch(token)) is not None:
        return bytes([int(byte[1], 16)])
    return (token.replace("▁", " ") if "Metaspace" in kinds else token).encode()


def _byte_signs() -> dict[str, int]:
    """The byte of each sign in which byte-level pieces are written (GPT-2's table): what can be printed stands for
    itself, the others for signs from 256 on."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_signs()
