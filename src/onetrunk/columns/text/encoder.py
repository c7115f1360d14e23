"""Texts as tokens of a vocabulary learnt from the training rows, or of a checkpoint's; saved as a `tokenizer.json`.

A value may be a conversation. Each turn then stands between a start and an end token, its role on a line before it, and
the assistant's turns alone are learnt, with their ends. One that waits for the assistant holds what opens its turn.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import Unigram

from onetrunk.columns.families.tokens.encoder import MANY_VALUES, TokenEncoder, TokenOptions
from onetrunk.columns.families.tokens.harmless import check_harmless
from onetrunk.columns.families.tokens.special_tokens import OWN, SpecialTokens, TokenHead
from onetrunk.columns.families.tokens.tokenizers import character_tokenizer, train_bpe
from onetrunk.columns.text.conversations import (
    ANSWERS,
    has_turns,
    is_conversation,
    proper,
    rendered,
    replies,
    some_conversations,
    turns,
)
from onetrunk.columns.text.spelling import bytes_of_tokens
from onetrunk.columns.text.words import WordEncoder
from onetrunk.core.content import Content
from onetrunk.core.encoder import FreeText, Gapped, Growth, Spelt
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.values import all_are, in_memory
from onetrunk.core.wide import Sparse, Wide, WideFeatures
from onetrunk.data.ngrams import character_ngrams, text_keys, word_ngrams

if TYPE_CHECKING:
    from onetrunk.columns.text.chat_template import ChatTemplate

_ASCII_SIGNS = bytes(code for code in range(128) if not chr(code).isalnum())
_WIDE_CHARACTERS = 20_000  # of one text, that a wide read-out sees


def says_unreadable(error: BaseException) -> bool:
    """Is it one of the three kinds that tokenizers raises for what it cannot read: a plain `Exception` of no subclass,
    a wrong value or type, or a panic of its Rust code, whose class cannot be imported and is no `Exception`?"""
    panicked = type(error).__name__ == "PanicException"
    return panicked or type(error) is Exception or isinstance(error, ValueError | TypeError)


def tokenizer_of(description: str) -> Tokenizer:
    """Raises ValueError for what describes none, and for one that is not harmless."""
    told = json.loads(description)
    if not isinstance(told, dict):
        raise ValueError("a tokenizer's description should be an object")
    check_harmless(told)
    try:
        made = Tokenizer.from_str(description)
        made.encode("a")  # what panics with every text does it now
    except BaseException as error:
        if not says_unreadable(error):
            raise
        raise ValueError(f"a tokenizer that cannot be read ({error})") from None
    return made


class TextEncoder(TokenEncoder, Wide, Gapped, FreeText, Spelt):
    """Byte-level BPE, or characters."""

    type_name = "text"
    too_long = "texts"
    unknown_tokens = "unknown characters"

    class Options(TokenOptions):
        unit: Literal["bpe", "character"] = "bpe"
        vocabulary: int | None = Field(None, ge=300, le=1_000_000)  # None: grows with the training text

    options: Options
    tokenizer: Tokenizer
    learnt_conversations = False  # are there any among the training values?
    template: ChatTemplate | None = None  # a checkpoint's way to spell one

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if values and all(is_conversation(v) for v in values):
            return 0.95 if all(map(has_turns, values)) else 0.0
        if not all_are(values, str):
            return 0.0
        return 0.8 if any(" " in v.strip() or len(v) > 30 for v in set(values)) else 0.6

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        texts = [text_of(v) for v in values]
        lengths = np.array(list(map(len, texts)))
        words = Counter(re.findall(r"\w+", "\n".join(texts[:2000]).lower()))
        return {
            "characters": {
                "shortest": int(lengths.min()),
                "median": float(np.median(lengths)),
                "longest": int(lengths.max()),
            },
            "empty": int(sum(not text.strip() for text in texts)),
            "frequent words": [w for w, _ in words.most_common(8)],
            "samples": [text[:80] for text in texts[:3]],
        }

    @classmethod
    def near_duplicate_key(cls, value: Any) -> str | None:
        """Letters and digits only, without case: equal for texts that differ in spacing and punctuation."""
        text = text_of(value).lower()
        if text.isascii():  # as the expression says, in a tenth of the time
            return text.encode("ascii").translate(None, _ASCII_SIGNS).decode("ascii") or None
        return re.sub(r"[\W_]+", "", text) or None

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        return {"text": text_of(value)}

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        values = in_memory(values)
        self.learnt_conversations = some_conversations(values)
        texts = _pieces(values)
        if not any(texts):
            reason = next(filter(None, map(_why_not, values)), "all are empty")
            raise DataError(
                f"A text column needs at least one training row that can be used and is not empty: {reason}."
            )
        if self.options.unit == "character":
            characters = Counter(c for text in texts for c in set(text))
            rare = 1 if len(texts) > MANY_VALUES else 0  # it becomes <|unknown|>
            kept = sorted(c for c, count in characters.items() if count > rare)
            self.tokenizer = character_tokenizer(kept)
        else:
            size = sum(map(len, texts))
            vocabulary = self.options.vocabulary or int(np.clip(size // 40, 512, 32_000))
            self.tokenizer = train_bpe(texts, vocabulary)
        self.use(self.tokenizer)
        self._learn_bigrams(values)

    def extend(self, values: Sequence[Any]) -> Growth:
        """Adds whole words (or, by character, characters) that take many tokens and occur often.

        A tokenizer that came with its model stays what it is.
        """
        self.learnt_conversations = self.learnt_conversations or some_conversations(values)
        if self.special != OWN:
            return Growth()
        texts = _pieces(in_memory(values))
        pattern = r"\S" if self.options.unit == "character" else r"\w{2,}"
        counts = Counter(word for text in texts for word in re.findall(pattern, text))
        known = self.tokenizer.get_vocab()
        if self.options.unit == "character":
            new = [c for c in counts if c not in known]
        else:
            enough = max(3, len(texts) // 200)
            new = [w for w, n in counts.items() if n >= enough and len(self.tokenizer.encode(w).ids) > 3]
        pieces = [self.tokenizer.encode(word).ids for word in sorted(new)]  # that spelt it before
        self.tokenizer.add_tokens([AddedToken(word, normalized=False) for word in sorted(new)])
        self.use(self.tokenizer, self.special, self.token_head)
        return Growth({"tokens": pieces})

    def use(self, tokenizer: Tokenizer, special: SpecialTokens = OWN, head: TokenHead | None = None) -> None:
        """From now on this tokenizer, whose special tokens these are."""
        self.tokenizer, self.special, self.token_head = tokenizer, special, head or TokenHead()
        self.tokenizer.encode_special_tokens = True  # "<|end|>" in a user's text is text
        self._words = WordEncoder(tokenizer)
        self.size = self.token_head.rows or tokenizer.get_vocab_size()
        controls = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
        self.controls = tuple(sorted({*controls, *special.never}))
        self._spelt_controls = [tokenizer.get_added_tokens_decoder()[i].content for i in controls]
        # The byte-level decoder would take the letters of a word that was added as it is written for signs of bytes.
        added = tokenizer.get_added_tokens_decoder() if isinstance(tokenizer.decoder, ByteLevel) else {}
        self._whole_words = {i: t.content for i, t in added.items() if not t.special and not t.content.isascii()}
        self._of_controls: Tokenizer | None = None
        unigram = isinstance(tokenizer.model, Unigram) and special.unknown >= 0
        self._controls = np.array(controls if unigram else [], dtype=np.int32)
        self._lookup: np.ndarray | None = None
        if self.options.unit == "character":
            vocab = {token: i for token, i in self.tokenizer.get_vocab().items() if len(token) == 1}
            self._lookup = np.zeros(max(map(ord, vocab), default=0) + 2, dtype=np.int32)  # 0 is UNKNOWN
            for token, i in vocab.items():
                self._lookup[ord(token)] = i

    def knowledge(self) -> dict[str, Any]:
        known: dict[str, Any] = {"tokenizer": self.tokenizer.to_str(), "bigrams": self.bigrams.tolist()}
        if self.learnt_conversations:
            known["conversations"] = True
        if self.template is not None:
            known["chat_template"] = {"template": self.template.text, "tokens": self.template.tokens}
        if self.special != OWN:
            known |= {"special_tokens": asdict(self.special), "token_head": asdict(self.token_head)}
        return known

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.bigrams = np.array(knowledge.get("bigrams", []), dtype=np.int64)
        self.learnt_conversations = knowledge.get(
            "conversations", knowledge.get("converses", False)
        )  # the second: earlier folders
        if (template := knowledge.get("chat_template")) is not None:
            from onetrunk.columns.text.chat_template import ChatTemplate

            self.template = ChatTemplate(template["template"], template["tokens"])
        tokenizer = tokenizer_of(knowledge["tokenizer"])
        if "special_tokens" not in knowledge:
            self.use(tokenizer)
            return
        kept: dict[str, Any] = knowledge["special_tokens"]
        special: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}
        self.use(tokenizer, SpecialTokens(**special), TokenHead(**knowledge["token_head"]))

    def decode(self, ids: list[int]) -> str:
        return self._decoded(ids)

    def _decoded(self, ids: list[int], controls: bool = False) -> str:
        """Their text; that of control tokens is left out unless it is wanted."""
        out, first = [], 0
        for i, token in enumerate(ids if self._whole_words else []):
            if (word := self._whole_words.get(token)) is not None:
                out += [self.tokenizer.decode(ids[first:i], skip_special_tokens=not controls), word]
                first = i + 1
        return "".join([*out, self.tokenizer.decode(ids[first:], skip_special_tokens=not controls)])

    def spelt(self, ids: list[int]) -> tuple[str, list[tuple[int, int]]]:
        """A token of bytes may end inside of a character, which then is of the token that completes it."""
        whole, spans, begin = self.decode(ids), [], 0
        for n in range(1, len(ids) + 1):
            so_far = whole if n == len(ids) else self.decode(ids[:n])
            alike = len(so_far) if whole.startswith(so_far) else _alike(whole, so_far)
            spans.append((begin, max(begin, alike)))
            begin = spans[-1][1]
        return whole, spans

    def spellings(self) -> list[bytes]:
        return bytes_of_tokens(self.tokenizer, self.size, self.controls)

    def ends(self) -> list[int]:
        return [self.special.end, *self.special.stops]

    def assets(self) -> dict[str, str]:
        return {"tokenizer.json": self.tokenizer.to_str(pretty=True)}

    # -- values to arrays ----------------------------------------------------------------------------------------------
    @property
    def reads_cells(self) -> bool:
        return True

    def loses_nothing(self, values: Sequence[Any]) -> bool:
        """A token of bytes is one or more of them: what has no more bytes than are seen is not cut."""
        if self.options.unit != "bpe" or not all_are(values, str) or not any(values):
            return False
        try:
            return all(len(v if v.isascii() else v.encode("utf-8")) <= self.options.length for v in values)
        except UnicodeEncodeError:
            return False

    def plain(self, values: list[Any]) -> list[Any]:
        """Conversations in the one form that all others mean."""
        if not some_conversations(values):
            return values
        return [proper(v) if is_conversation(v) and _why_not(v) is None else v for v in values]

    def teaches(self, content: Content) -> np.ndarray:
        """Of a conversation without a turn of the assistant nothing is learnt."""
        if not self.learnt_conversations:
            return super().teaches(content)
        learnt = np.add.reduceat(np.append(content.gather()["learnt"], False), np.cumsum(content.lens) - content.lens)
        return (learnt > 0) | (content.lens == 0)

    teaches_nothing = f"no conversation has a turn of {ANSWERS!r}, whose turns are learnt"

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        if is_conversation(value):
            return self._encode_turns(value) if self.template is None else self._encode_by_template(value)
        return self.arrays_of(self._ids(_checked(value)))

    def _ids(self, text: str) -> np.ndarray:
        if self._lookup is not None:
            points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
            return self._lookup[np.minimum(points, len(self._lookup) - 1)]
        return self._of_text(np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32))

    def _of_text(self, ids: np.ndarray) -> np.ndarray:
        """What a user writes is text: a unigram model would read a spelt control token as one, here it is unknown."""
        return np.where(np.isin(ids, self._controls), self.special.unknown, ids) if len(self._controls) else ids

    def _encode_turns(self, value: Any) -> dict[str, np.ndarray]:
        """The start before the first turn and the end after the last one are every text's."""
        if not self.learnt_conversations:
            raise BadValueError("a conversation, and this column learnt from texts only: fine-tune it on conversations")
        between = np.array([self.special.end, self.special.start], dtype=np.int32)
        pieces: list[tuple[np.ndarray, bool]] = []
        spoken = turns(value)
        for role, content in spoken if spoken[-1][0] == ANSWERS else [*spoken, (ANSWERS, "")]:
            if pieces:
                pieces += [(between[:1], pieces[-1][1]), (between[1:], False)]
            pieces += [(self._ids(f"{role}\n"), False), (self._ids(_checked(content)), role == ANSWERS)]
        learnt = np.concatenate([np.full(len(ids), is_learnt) for ids, is_learnt in pieces])
        return self.arrays_of(np.concatenate([ids for ids, _ in pieces]), learnt)

    def _encode_by_template(self, value: Any) -> dict[str, np.ndarray]:
        """As the checkpoint spells it. Its first token takes the place of the start token."""
        assert self.template is not None
        proper = [{"role": role, "content": _checked(content)} for role, content in turns(value)]
        for i, turn in enumerate(proper):
            if spelt := next((token for token in self._spelt_controls if token in turn["content"]), None):
                raise BadValueError(f"turn {i} of a conversation holds {spelt!r}, which is no text for this model")
        ids, learnt = self.template.encode(proper, ANSWERS, self._tokenise)
        if not ids:
            raise BadValueError("a conversation of which the model's own chat template makes nothing")
        return self.arrays_of(np.array(ids[1:], dtype=np.int32), np.array(learnt[1:], dtype=bool), ids[0])

    def _tokenise(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """With control tokens where they are spelt. That takes a tokenizer of its own: one that another thread reads by
        cannot be told to read otherwise for a moment."""
        if self._of_controls is None:
            made = Tokenizer.from_str(self.tokenizer.to_str())
            made.encode_special_tokens = False
            self._of_controls = made
        encoding = self._of_controls.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def is_prompt(self, value: Any) -> bool:
        return is_conversation(value)

    # -- gaps ----------------------------------------------------------------------------------------------------------
    @property
    def gap(self) -> str:
        return self.tokenizer.id_to_token(self.special.mask) or ""

    @property
    def answers_by(self) -> Literal["writing", "filling", "nothing"]:
        return self.token_head.does

    def encode_gaps(self, value: Any) -> dict[str, np.ndarray]:
        text = _checked(value)
        if not self.gap or self.gap not in text:
            raise BadValueError(f"a text without a gap ({self.gap})")
        if self._lookup is not None:  # by character
            pieces = [self._ids(piece) for piece in text.split(self.gap)]
            gap = np.array([self.special.mask], dtype=np.int32)
            ids = np.concatenate([part for piece in pieces for part in (gap, piece)][1:])
        else:
            # Ours are pieces that begin with a space: the one before a gap is of what fills it.
            spelt, _ = self._tokenise(text.replace(f" {self.gap}", self.gap) if self.special == OWN else text)
            controls = {i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
            ids = np.array(spelt, dtype=np.int32)
            if any(i in controls and i != self.special.mask for i in spelt):
                raise BadValueError("a text that spells other control tokens than its gaps")
        if int(np.flatnonzero(ids == self.special.mask).max(initial=0)) >= self.options.length - self.special.around:
            raise BadValueError(f"a text with a gap after {self.options.length} tokens, which are all that is seen")
        return self.arrays_of(ids)

    def is_gap(self, content: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(content["id"]) == self.special.mask

    def filled(self, value: Any, choices: Sequence[int]) -> str:
        """In the text as it was given; what goes on from a piece of a word stands where the gap did."""
        pieces = str(value).split(self.gap)
        words = [self.decode([choice]).strip().removeprefix("##") for choice in choices]
        return "".join(part for pair in zip(pieces, [*words, ""], strict=True) for part in pair)

    def split(self, value: Any) -> tuple[Any, Any]:
        """Of a conversation, what came before its last reply, and that reply."""
        if not is_conversation(value):
            return None, value
        spoken = turns(value)
        last = max((i for i, (role, _) in enumerate(spoken) if role == ANSWERS), default=0)
        if not last:
            raise BadValueError("a conversation without a reply")
        return list(value[:last]), spoken[last][1]

    def text_to_write(self, value: Any) -> str:
        return "\n".join(replies(value)) if is_conversation(value) else str(value)

    def reply(self, ids: list[int], first: int, spoken: bool) -> list[int]:
        """Of a conversation the last turn alone; a text has no start inside."""
        if self.template is not None:
            return ids[first:] if spoken else ids
        opens = [i for i in range(first) if ids[i] == self.special.start]
        return ids[opens[-1] + 1 + len(self._ids(f"{ANSWERS}\n")) :] if opens else ids

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        if self._lookup is not None or some_conversations(values):
            return super().encode_all(values, bad)
        present, texts = np.zeros(len(values), dtype=bool), []
        for i, value in enumerate(values):
            if value is None:
                continue
            try:
                texts.append(_checked(value))
                present[i] = True
            except BadValueError as error:
                bad(i, str(error))
        if not texts:
            return self.stack([]), present
        ids, lens = self._words.encode(texts)
        return self.content_of(self._of_text(ids), lens), present

    def wide_features(self, content: Content) -> WideFeatures:
        """Runs of 1 or 2 words and of 1 to 5 characters, counted."""
        joined = content.gather()["id"]
        ends = np.cumsum(content.lens).tolist()
        ids = [joined[a:b].tolist() for a, b in pairwise([0, *ends])]
        if self._whole_words:
            texts = [self._decoded(each, controls=True)[:_WIDE_CHARACTERS] for each in ids]
        else:
            texts = [text[:_WIDE_CHARACTERS] for text in self.tokenizer.decode_batch(ids, skip_special_tokens=False)]
        grams = {"words": word_ngrams(texts), "characters": character_ngrams(texts)}
        sparse = {name: Sparse(row, feature, count.astype(np.float32), counted=True)
                  for name, (row, feature, count) in grams.items()}  # fmt: skip
        return WideFeatures(len(texts), sparse, key=text_keys(texts))


def text_of(value: Any) -> str:
    """A value for a person, and for simple models."""
    return value if isinstance(value, str) else rendered(value) if is_conversation(value) else str(value)


def _alike(a: str, b: str) -> int:
    """How many characters both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _pieces(values: Sequence[Any]) -> list[str]:
    """What is written in values: texts, and the roles and contents of turns. What is no proper turn is left out."""
    if not some_conversations(values):
        return list(map(_checked, values))
    out = []
    for value in values:
        if not is_conversation(value):
            out.append(_checked(value))
            continue
        with suppress(BadValueError):
            out += [
                _checked(piece) for role, content in [*turns(value), (ANSWERS, "")] for piece in (f"{role}\n", content)
            ]
    return out


def _why_not(value: Any) -> str | None:
    """Why a conversation cannot be used."""
    if is_conversation(value):
        try:
            turns(value)
        except BadValueError as error:
            return str(error)
    return None


def _checked(value: Any) -> str:
    if not isinstance(value, str):
        value = str(value)
    if value.isascii():
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadValueError("the text holds a lone surrogate, which is not Unicode text") from None
    return value
