"""Values as sequences of tokens, and what stands at each position when they are given, asked or masked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from onetrunk.columns.families.tokens.bigrams import bigram_codes, bigram_rows, frequent_bigrams
from onetrunk.columns.families.tokens.special_tokens import OWN, SpecialTokens, TokenHead
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment, local_positions, pick
from onetrunk.core.encoder import Beside, Encoder, Prompted, SegmentContext
from onetrunk.core.parts import Arrays, Continued, Divided, Parts

MANY_VALUES = 1000  # of so many, what occurs once is noise


class TokenOptions(Config):
    """What a user may set of every sequence of tokens."""

    length: int = Field(256, ge=1, le=1_000_000)  # tokens of one value that the trunk sees: the context
    mask_rate: float = Field(0.2, gt=0, le=1)  # share of tokens hidden when masked, on average
    embedding: int | None = Field(None, ge=1)  # numbers of a token's vector; zeros fill it up. None: the trunk's width
    bigrams: int = Field(0, ge=0, le=1 << 22)  # at most so many frequent pairs of neighbours get vectors of their own
    word_dropout: float = Field(0.0, ge=0, lt=1)  # share of given tokens, each with its bigram, blanked in training
    smoothing: float = Field(0.0, ge=0, lt=1)  # label smoothing in training (arXiv 1512.00567)


class TokenEncoder(Encoder, Prompted, Divided, Continued):
    """A type of it makes values to tokens (`encode`, whose content is of `arrays_of`) and back (`decode`)."""

    ragged = True
    divisible = True
    shared = True
    costly = True

    Options: ClassVar[type[Config]] = TokenOptions
    options: TokenOptions
    special: SpecialTokens = OWN
    token_head: TokenHead = TokenHead()
    controls: tuple[int, ...] = OWN.never  # tokens that are no text
    size: int  # tokens that there are
    bigrams: np.ndarray  # codes of those that have vectors, increasing int64
    too_long: ClassVar[str]  # values that the context cuts, for the ledger
    unknown_tokens: ClassVar[str]

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """Tokens to a value."""

    def text_to_write(self, value: Any) -> str:
        """What of a value is written when it is asked: all of it."""
        return str(value)

    def reply(self, ids: list[int], first: int, spoken: bool) -> list[int]:
        """Of a whole text's tokens, those that are the answer; what was written begins at `first`. `spoken`: what it
        answers holds what nobody learns, as a conversation does."""
        return ids

    # -- parts -------------------------------------------------------------------------------------------------------
    def spelt(self, ids: list[int]) -> tuple[str, list[tuple[int, int]]]:
        """Tokens as a text, and which of its characters each token is; a token that ends inside of a character has
        none of it."""
        pieces = [self.decode([i]) for i in ids]
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64).tolist()
        return "".join(pieces), [(end - len(piece), end) for end, piece in zip(ends, pieces, strict=True)]

    def parts(self, content: Content, asked: bool) -> Parts:
        ids, special = content.gather()["id"], self.special
        first, room = len(special.before), self.options.length - special.around
        if asked or ((led := self._led(content)) is not None and led[0] >= 0):  # one token opens it
            first, room = 1, self.options.length - 1
        count = min(len(ids), room)
        text, spans = self.spelt(ids[:count].tolist())
        labels = [text[a:b] for a, b in spans]
        return Parts(first + np.arange(count), labels, "token", spans=spans, text=text)

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        special = self.special
        blank = next((i for i in (special.mask, special.unknown) if i >= 0), special.end)
        out = {**arrays, "id": np.where(hidden, blank, arrays["id"])}
        if "bigram" in arrays:  # nor is it told what the next token follows
            after = np.concatenate([[False], hidden[:-1]])
            out["bigram"] = np.where(hidden | after, 0, arrays["bigram"])
        return out

    def without(self, content: Content, left_out: np.ndarray, asked: bool) -> Content:
        kept = np.arange(int(content.lens.max(initial=0))) < content.lens[:, None]
        kept[:, : left_out.shape[1]] &= ~left_out
        flat = kept[np.repeat(np.arange(len(content)), content.lens), local_positions(content.lens)]
        return Content({name: array[flat] for name, array in content.gather().items()}, kept.sum(1))

    def continued(self, before: Arrays | None, answer: Answer) -> tuple[Arrays, slice]:
        """The prompt's tokens, as far back as there is room for, and those that were written."""
        if answer.written is None:
            own = self.encode(answer.value)["id"]
        else:
            own = np.array(answer.written.tokens, dtype=np.int64)
        own = own[: self.options.length]
        if before is None or not len(before["id"]):
            return self.arrays_of(own), slice(0, max(1, len(own)))
        ids = before["id"][max(0, len(before["id"]) - (self.options.length - len(own))) :]
        arrays = self.arrays_of(np.concatenate([ids, own]), start=int(before["start"][0]))
        return arrays, slice(len(ids), len(ids) + max(1, len(own)))

    def read_labels(self, arrays: Arrays, reads: slice) -> list[str] | None:
        ids = arrays["id"].tolist()
        text, spans = self.spelt(ids)
        return [text[a:b] for a, b in spans[reads]] if ids[reads] else ["the end"]

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def _learn_bigrams(self, values: Sequence[Any]) -> None:
        """The most frequent ones. What occurs once among many values would be learnt by heart: it is left out."""
        self.bigrams = np.zeros(0, dtype=np.int64)
        if self.options.bigrams:
            content, _ = self.encode_all(values, lambda i, reason: None)
            enough = 2 if len(values) > MANY_VALUES else 1
            self.bigrams = frequent_bigrams(content.gather()["id"], content.lens, self.options.bigrams, enough)

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def arrays_of(
        self, ids: np.ndarray, learnt: np.ndarray | None = None, start: int | None = None
    ) -> dict[str, np.ndarray]:
        """Tokens of one text, at its first the token that stands before it when it is asked (-1 at the others; None:
        the start token), and which are learnt then (None: all)."""
        content = self.content_of(ids, np.array([len(ids)]), start)
        return content.data if learnt is None else {**content.data, "learnt": learnt}

    def content_of(self, ids: np.ndarray, lens: np.ndarray, start: int | None = None) -> Content:
        """What `arrays_of` makes of several texts, `lens` [m] of whose tokens `ids` lie one behind the other; all are
        learnt. A table may have thousands of millions of tokens: they are of the narrowest type that has room."""
        narrow = np.int16 if self.size <= 1 << 15 else np.int32
        starts = np.full(len(ids), -1, dtype=narrow)
        starts[(np.cumsum(lens) - lens)[lens > 0]] = self.special.start if start is None else start
        data = {"id": ids.astype(narrow, copy=False), "start": starts, "learnt": np.ones(len(ids), dtype=bool)}
        return Content(data, lens)

    def blank(self) -> dict[str, np.ndarray]:
        return self.arrays_of(np.array([self.special.end]))

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        room = self.options.length - self.special.around
        longer = int((content.lens > room).sum())
        unknown = int((_ids(content) == self.special.unknown).sum())
        counts = {
            f"{self.too_long} longer than {room} tokens, of which only {room} are seen": longer,
            self.unknown_tokens: unknown,
        }
        return {reason: count for reason, count in counts.items() if count}

    @property
    def window_length(self) -> int:
        return self.options.length

    def max_positions(self, content: Content) -> np.ndarray:
        if self.special.fill >= 0:
            return np.full_like(content.lens, self.options.length)
        return np.minimum(content.lens + max(1, self.special.around), self.options.length)

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        keys = context.keys
        if context.role == Role.ASKED:
            return self._asked(content, keys if context.augment else None)
        lens = np.minimum(content.lens, self.options.length - self.special.around)
        first = np.zeros_like(lens)
        if context.augment and context.role == Role.MASKED:
            first = rng.integers(rng.mix(keys, "window"), content.lens - lens + 1)
        if context.role == Role.GIVEN and (led := self._led(content)) is not None:
            lens = np.minimum(lens, self.options.length - (led >= 0))
            ids = _ids(content.window(first, lens))
            ends = lens.cumsum() - lens
            ids = np.insert(ids, ends[led >= 0], led[led >= 0])
            return self._given(ids, lens + (led >= 0), keys if context.augment else None)
        ids = _ids(content.window(first, lens))
        if context.role == Role.GIVEN:
            return self._given(ids, lens, keys if context.augment else None)
        return self._masked(ids, lens, keys)

    def _led(self, content: Content) -> np.ndarray | None:
        """The token that opens each text that another one than the start token opens, or -1; None where none does."""
        if self.special.around or self.special.fill >= 0:
            return None
        begins = np.where(content.lens > 0, pick(content.data["start"], content.starts, -1), -1)
        led = np.where(begins != self.special.start, begins, -1)
        return led if bool((led >= 0).any()) else None

    def _given(self, ids: np.ndarray, lens: np.ndarray, keys: np.ndarray | None) -> Segment:
        """With keys, some tokens are blanked: word dropout."""
        wrapped, whole, where = self.special.wrap(ids, lens, self.options.length)
        embedded = {"id": wrapped, **self._bigrams_of(wrapped, whole)}
        if keys is not None and self.options.word_dropout > 0:
            blanked = np.zeros(len(wrapped), dtype=bool)
            blanked[where] = self._uniform_per_token(keys, lens, "drop") < self.options.word_dropout
            blank = {"id": self.special.mask, "bigram": 0}
            embedded = {name: np.where(blanked, blank[name], array) for name, array in embedded.items()}
        return Segment(embedded, whole)

    def _masked(self, ids: np.ndarray, lens: np.ndarray, keys: np.ndarray) -> Segment:
        """As BERT (arXiv 1810.04805): of those hidden, 80 % are the mask, 10 % another token, 10 % as they are."""
        rate = np.repeat(2 * self.options.mask_rate * rng.uniform(rng.mix(keys, "rate")), lens)
        hidden = self._uniform_per_token(keys, lens, "hide") < rate
        fate = self._uniform_per_token(keys, lens, "fate")
        other = (self._uniform_per_token(keys, lens, "other") * self.size).astype(ids.dtype)
        corrupted = np.where(hidden & (fate < 0.8), self.special.mask, np.where(hidden & (fate < 0.9), other, ids))
        reads = np.flatnonzero(hidden)
        wrapped, whole, where = self.special.wrap(corrupted, lens, self.options.length)
        targets: dict[str, np.ndarray] = {"id": ids[reads].astype(np.int64), "w": np.ones(len(reads), np.float32)}
        embedded = {"id": wrapped, **self._bigrams_of(wrapped, whole)}
        return Segment(embedded, whole, reads=where[reads], targets=targets)

    def _asked(self, content: Content, keys: np.ndarray | None) -> Segment:
        """Inputs are start, t1 .. tn and targets t1 .. tn, end; of a text over the limit one window (the
        first without keys).

        A window that does not open the text is entered with the token before it. Windows may lie half outside before
        they are moved in: so the end is learnt as often as what stands in the middle.
        """
        limit, whole = self.options.length, content.lens + 1
        lens = np.minimum(whole, limit)
        first = np.zeros_like(lens)
        if keys is not None:
            beyond = np.where(whole > limit, lens - 1, 0)
            drawn = rng.integers(rng.mix(keys, "window"), whole - lens + 1 + 2 * beyond) - beyond
            first = np.clip(drawn, 0, whole - lens)
        local = local_positions(lens)
        index = np.repeat(first, lens) + local  # of the target, in t1 .. tn, end
        starts, ends = np.repeat(content.starts, lens), np.repeat(content.lens, lens)
        ids = content.data["id"]
        true = np.where(index < ends, pick(ids, starts + index, 0), self.special.end)
        before = pick(ids, np.maximum(starts + index - 1, 0), 0).astype(np.int64)
        begins = np.where(ends == 0, self.special.start, pick(content.data["start"], starts, self.special.start))
        # The end is learnt where what it ends is; that of an empty text too.
        learnt = pick(content.data["learnt"], starts + np.minimum(index, np.maximum(ends - 1, 0)), True)
        inputs = np.where((index == 0) & (begins >= 0), begins, before)
        return Segment(
            {"id": inputs, **self._bigrams_of(inputs, lens)},
            lens,
            order=local,
            reads=np.arange(len(local), dtype=np.int64),
            targets={"id": true.astype(np.int64), "w": (learnt | (ends == 0)).astype(np.float32)},
        )

    def _bigrams_of(self, ids: np.ndarray, lens: np.ndarray) -> dict[str, np.ndarray]:
        """The row of each token with the one before it in the table of bigrams."""
        return {"bigram": bigram_rows(self.bigrams, bigram_codes(ids, lens))} if self.options.bigrams else {}

    @staticmethod
    def _uniform_per_token(keys: np.ndarray, lens: np.ndarray, name: str) -> np.ndarray:
        """One uniform number a token, keyed by document and position."""
        return rng.uniform(rng.mix(np.repeat(rng.mix(keys, name), lens), local_positions(lens)))


def _ids(content: Content) -> np.ndarray:
    """Its tokens, of a type that PyTorch has embeddings for."""
    ids = Content({"id": content.data["id"]}, content.lens, content.starts)
    return ids.gather()["id"].astype(np.int32)
