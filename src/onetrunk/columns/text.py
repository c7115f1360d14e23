"""Text in any language: byte-level BPE learnt from the user's own rows, or characters; saved as a `tokenizer.json`.

A value may be a conversation. Each turn then stands between a start and an end token, its role on a line before it, and
the assistant's turns alone are learnt, with their ends. One that waits for the assistant holds what opens its turn.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from pydantic import Field
from tokenizers import AddedToken, Tokenizer

from onetrunk.columns._tokens import (
    MANY,
    OWN,
    SPECIALS,
    Meaning,
    Shape,
    TokenOptions,
    TokenSequence,
    character_tokenizer,
    parts_of,
    train_bpe,
)
from onetrunk.columns._turns import ANSWERS, is_conversation, rendered, replies, turns
from onetrunk.core.answer import Answer
from onetrunk.core.content import Content
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.values import in_memory


class Text(TokenSequence):
    """Tokens of a vocabulary learnt from the training rows, or of a checkpoint's."""

    class Options(TokenOptions):
        unit: Literal["bpe", "character"] = "bpe"
        vocabulary: int | None = Field(None, ge=300, le=1_000_000)  # None: grows with the training text

    converses = False  # were there conversations in what it learnt from?

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if values and all(is_conversation(v) for v in values):
            return 0.9 if all("role" in turn for v in values for turn in v) else 0.0
        if not all(isinstance(v, str) for v in values):
            return 0.0
        return 0.8 if any(" " in v.strip() or len(v) > 30 for v in values) else 0.6

    def fit(self, values: Sequence[Any]) -> None:
        values = in_memory(values)
        self.converses = any(is_conversation(v) for v in values)
        texts = _pieces(values)
        characters = Counter(c for text in texts for c in set(text))
        if not characters:
            raise DataError("A text column needs at least one training row that is not empty; all are empty.")
        if self.options.unit == "character":
            rare = 1 if len(texts) > MANY else 0  # it becomes <|unknown|>
            kept = sorted(c for c, count in characters.items() if count > rare)
            self.tokenizer = character_tokenizer(kept)
        else:
            size = sum(map(len, texts))
            vocabulary = self.options.vocabulary or int(np.clip(size // 40, 512, 32_000))
            self.tokenizer = train_bpe(texts, vocabulary)
        self._remember(OWN, Shape())
        self.pairs = self._frequent_pairs(values)

    def extend(self, values: Sequence[Any]) -> int:
        """Adds whole words (or, by character, characters) that take many tokens and occur often.

        A tokenizer that came with its model stays what it is.
        """
        self.converses = self.converses or any(is_conversation(v) for v in values)
        if self.meaning != OWN:
            return 0
        texts = _pieces(values)
        pattern = r"\S" if self.options.unit == "character" else r"\w{2,}"
        counts = Counter(word for text in texts for word in re.findall(pattern, text))
        known = self.tokenizer.get_vocab()
        if self.options.unit == "character":
            new = [c for c in counts if c not in known]
        else:
            enough = max(3, len(texts) // 200)
            new = [w for w, n in counts.items() if n >= enough and len(self.tokenizer.encode(w).ids) > 3]
        old_ids = {word: self.tokenizer.encode(word).ids for word in new}
        self.tokenizer.add_tokens([AddedToken(word, normalized=False) for word in sorted(new)])
        self._remember(self.meaning, self.shape)
        if new and hasattr(self, "table"):
            self._grow([old_ids[word] for word in sorted(new)])  # by the pieces that spelt it before
        return len(new)

    def _remember(self, meaning: Meaning, shape: Shape) -> None:
        self.tokenizer.encode_special_tokens = True  # "<|end|>" in a user's text is text
        self.meaning, self.shape = meaning, shape
        self.size = shape.rows or self.tokenizer.get_vocab_size()
        self._lookup: np.ndarray | None = None
        if self.options.unit == "character":
            vocab = {token: i for token, i in self.tokenizer.get_vocab().items() if len(token) == 1}
            self._lookup = np.zeros(max(map(ord, vocab), default=0) + 2, dtype=np.int32)  # 0 is UNKNOWN
            for token, i in vocab.items():
                self._lookup[ord(token)] = i

    def knowledge(self) -> dict[str, Any]:
        known: dict[str, Any] = {"tokenizer": self.tokenizer.to_str(), "pairs": self.pairs.tolist()}
        if self.converses:
            known["converses"] = True
        if self.meaning != OWN:
            known |= {"meaning": asdict(self.meaning), "shape": asdict(self.shape)}
        return known

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.tokenizer = Tokenizer.from_str(knowledge["tokenizer"])
        self.pairs = np.array(knowledge.get("pairs", []), dtype=np.int64)
        self.converses = knowledge.get("converses", False)
        if "meaning" not in knowledge:
            self._remember(OWN, Shape())
            return
        meaning = {k: tuple(v) if isinstance(v, list) else v for k, v in knowledge["meaning"].items()}
        self._remember(Meaning(**meaning), Shape(**knowledge["shape"]))

    def written(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)

    def assets(self) -> dict[str, str]:
        return {"tokenizer.json": self.tokenizer.to_str(pretty=True)}

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        texts = [_shown(v) for v in values]
        lengths = np.array([len(text) for text in texts])
        words = Counter(w for text in texts[:2000] for w in re.findall(r"\w+", text.lower()))
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
    def near(cls, value: Any) -> str | None:
        """Letters and digits only, without case: equal for texts that differ in spacing and punctuation."""
        return re.sub(r"[\W_]+", "", _shown(value).lower()) or None

    @classmethod
    def show(cls, value: Any) -> dict[str, str]:
        return {"text": _shown(value)}

    def dropped(self, content: Content) -> dict[str, int]:
        longer = int((content.lens > self.options.length).sum())
        unknown = int((content.data["id"] == self.meaning.unknown).sum())
        found = {
            f"texts longer than {self.options.length} tokens, read up to there": longer,
            "unknown characters": unknown,
        }
        return {reason: n for reason, n in found.items() if n}

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        return self._encode_turns(value) if is_conversation(value) else parts_of(self._ids(_checked(value)))

    def _ids(self, text: str) -> np.ndarray:
        if self._lookup is not None:
            points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
            return self._lookup[np.minimum(points, len(self._lookup) - 1)]
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def _encode_turns(self, value: Any) -> dict[str, np.ndarray]:
        """The start before the first turn and the end after the last one are every text's."""
        if not self.converses:
            raise BadValueError("a conversation, and this column learnt from texts only: fine-tune it on conversations")
        between = np.array([self.meaning.end, self.meaning.start], dtype=np.int32)
        pieces: list[tuple[np.ndarray, bool]] = []
        found = turns(value)
        for role, content in found if found[-1][0] == ANSWERS else [*found, (ANSWERS, "")]:
            if pieces:
                pieces += [(between[:1], pieces[-1][1]), (between[1:], False)]
            pieces += [(self._ids(f"{role}\n"), False), (self._ids(_checked(content)), role == ANSWERS)]
        learnt = np.concatenate([np.full(len(ids), told) for ids, told in pieces])
        return parts_of(np.concatenate([ids for ids, _ in pieces]), learnt)

    def goes_on(self, value: Any) -> bool:
        return is_conversation(value)

    def split(self, value: Any) -> tuple[Any, Any]:
        """Of a conversation, what came before its last reply, and that reply."""
        if not is_conversation(value):
            return None, value
        found = turns(value)
        last = max((i for i, (role, _) in enumerate(found) if role == ANSWERS), default=0)
        if not last:
            raise BadValueError("a conversation without a reply")
        return list(value[:last]), found[last][1]

    def said(self, value: Any) -> str:
        return "\n".join(replies(value)) if is_conversation(value) else str(value)

    def reply(self, ids: list[int], first: int) -> list[int]:
        """Of a conversation the last turn alone; a text has no start inside."""
        opens = [i for i in range(first) if ids[i] == self.meaning.start]
        return ids[opens[-1] + 1 + len(self._ids(f"{ANSWERS}\n")) :] if opens else ids

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        if self._lookup is not None or any(is_conversation(v) for v in values):
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
        pieces = []
        for first in range(0, len(texts), 4096):
            for encoding in self.tokenizer.encode_batch_fast(texts[first : first + 4096], add_special_tokens=False):
                pieces.append(parts_of(np.array(encoding.ids, dtype=np.int32)))
        if not pieces:
            return Content.stack([self.blank()], True).take(np.zeros(0, dtype=np.int64)), present
        return Content.stack(pieces, True), present

    # -- evidence ----------------------------------------------------------------------------------------------------
    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Errors of words only where the truths are written in words."""
        from onetrunk.metrics.text import character_error_rate, exact_match, word_error_rate

        values = [str(a.value) for a in answers]
        found = {
            "exact_match": exact_match(truths, values),
            "character_error_rate": character_error_rate(truths, values),
        }
        if any(" " in str(truth).strip() for truth in truths):
            found["word_error_rate"] = word_error_rate(truths, values)
        return found

    def features(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        spaced = " " in self.tokenizer.decode(list(range(len(SPECIALS), min(self.size, 5000))))
        if spaced and self.options.unit == "bpe":
            vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        else:  # written without spaces
            vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True, min_df=2)
        return make_pipeline(
            FunctionTransformer(lambda values: ["" if v is None else _shown(v) for v in values]), vectors
        )


def _shown(value: Any) -> str:
    return rendered(value) if is_conversation(value) else str(value)


def _pieces(values: Sequence[Any]) -> list[str]:
    """What is written in values: texts, and the roles and contents of turns. What is no proper turn is left out."""
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


def _checked(value: Any) -> str:
    if not isinstance(value, str):
        value = str(value)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadValueError("the text holds a lone surrogate, which is not Unicode text") from None
    return value


CODEC = Text
