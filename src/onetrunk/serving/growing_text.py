"""A text as it grows: what of it may be sent already, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_HALF = "\ufffd"  # what the bytes of a character that is not complete yet are decoded to


@dataclass
class GrowingText:
    """Stop strings end it, and are no part of it. Nothing is sent that could still change: half of a character, or
    what may be the beginning of a stop string."""

    stops: Sequence[str] = ()
    sent: str = ""

    def grow(self, text: str, finished: bool = False) -> tuple[str, bool]:
        """Of the whole text so far, what has not been sent yet, and whether a stop string ended it."""
        places = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if places:
            safe, ended = text[: min(places)], True
        elif finished:
            safe, ended = text, False
        else:
            safe, ended = text.rstrip(_HALF), False
            safe = safe[: len(safe) - max((_begun(safe, stop) for stop in self.stops), default=0)]
        if not safe.startswith(self.sent):  # a tokenizer whose pieces change what stands before them
            return "", ended
        fresh, self.sent = safe[len(self.sent) :], safe
        return fresh, ended


def _begun(text: str, stop: str) -> int:
    """How much of a stop string stands at the text's end."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
