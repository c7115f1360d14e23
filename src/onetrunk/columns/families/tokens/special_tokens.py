"""Tokens that mean something, and what a checkpoint's embedding and read-out have that ours have not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from onetrunk.core.content import local_positions

SPECIALS = ["<|unknown|>", "<|start|>", "<|end|>", "<|mask|>"]
UNKNOWN, START, END, MASK = range(4)


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of tokens that mean something. A tokenizer learnt here has `OWN`; others keep what their model learnt."""

    unknown: int  # -1: everything can be spelt
    start: int
    end: int
    mask: int
    before: tuple[int, ...] = ()  # stand around every text that is read
    after: tuple[int, ...] = ()
    stops: tuple[int, ...] = ()  # also end what is written
    never: tuple[int, ...] = ()  # are not written
    fill: int = -1  # stands behind every text that is read, up to all that is seen; -1: nothing does

    @property
    def around(self) -> int:
        """How many stand around every text that is read."""
        return len(self.before) + len(self.after)

    def wrap(self, ids: np.ndarray, lens: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joined texts [n] and their lengths with `before` and `after` around each, up to `length` tokens where they
        are filled up, and where the n are now."""
        if not self.around and self.fill < 0:
            return ids, lens, np.arange(len(ids))
        whole = lens + self.around if self.fill < 0 else np.full_like(lens, length)
        starts = whole.cumsum() - whole
        out = np.full(int(whole.sum()), self.fill, dtype=ids.dtype)
        for i, token in enumerate(self.before):
            out[starts + i] = token
        for i, token in enumerate(self.after):
            out[starts + len(self.before) + lens + i] = token
        where = np.repeat(starts + len(self.before), lens) + local_positions(lens)
        out[where] = ids
        return out, whole, where


OWN = SpecialTokens(UNKNOWN, START, END, MASK, never=(UNKNOWN, START, MASK))


@dataclass(frozen=True)
class TokenHead:
    """What a checkpoint's embedding and read-out have that ours have not."""

    rows: int = 0  # of both; more than the tokenizer knows are spare. 0: as many
    tied: bool = False  # one table is both
    bias: bool = False  # of the read-out
    transform: float = 0.0  # BERT's layer before the read-out: eps of its norm; 0: none
    activation: str = "gelu"  # of that layer
    does: Literal["writing", "filling", "nothing"] = "writing"  # what it learnt; filling in hidden words
