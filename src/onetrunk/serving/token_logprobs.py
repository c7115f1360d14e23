"""Log-probabilities of the tokens of a written text, token by token."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Any

from onetrunk.core.answer import Written
from onetrunk.core.encoder import Spelt
from onetrunk.core.errors import UsageError


@dataclass(frozen=True)
class TokenLogprob:
    """`spelt` may be half of a character, `offset` is where it begins in the text."""

    spelt: bytes
    logprob: float
    offset: int  # characters
    top: tuple[tuple[bytes, float], ...]  # the likeliest at its place


class Spelling:
    """What the tokens of a column are, as bytes."""

    def __init__(self, encoder: Any) -> None:
        self._decode = encoder.decode
        try:
            bytes_of = encoder.spellings() if isinstance(encoder, Spelt) else []
        except UsageError:  # they depend on their neighbours: here each is what it is alone
            bytes_of = []
        self._known: dict[int, bytes] = {i: spelt for i, spelt in enumerate(bytes_of) if spelt}

    def of(self, token: int) -> bytes:
        if token not in self._known:
            self._known[token] = self._decode([token]).encode()
        return self._known[token]


def as_text(spelt: bytes) -> str:
    return spelt.decode(errors="replace")


@dataclass
class GrowingLogprobs:
    """Of one text as it grows: each of its tokens is told of once."""

    spelling: Spelling
    tokens: int = 0  # that have been told of
    size: int = 0  # bytes of them
    characters: int = 0
    _decoder: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def grow(self, written: Written, visible: str | None) -> list[TokenLogprob]:
        """Of new tokens, as many as it takes to write what is visible; of all where `visible` is None."""
        enough, out = None if visible is None else len(visible.encode()), []
        while self.tokens < len(written.tokens) and (enough is None or self.size < enough):
            i = self.tokens
            spelt, top = self.spelling.of(written.tokens[i]), written.top[i] if written.top else ()
            likeliest = tuple((self.spelling.of(token), logprob) for token, logprob in top)
            out.append(TokenLogprob(spelt, written.logprobs[i], self.characters, likeliest))
            self.tokens, self.size = i + 1, self.size + len(spelt)
            self.characters += len(self._decoder.decode(spelt))
        return out
