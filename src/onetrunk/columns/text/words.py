"""Texts encoded word by word: most words of long tables of texts were met before."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from tokenizers import Tokenizer

_SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # of Unicode, as tokenizers reads them
_WORD = re.compile(f"[{_SPACES}]*[^{_SPACES}]+|[{_SPACES}]+")  # with the spaces before it
_SHORT = 12  # characters of a word, on average; longer ones, such as Chinese sentences, seldom come again
_NEW = 8  # one word of so many may be new: to ask for a single word takes four times as long as it does within a text
_KEPT = 100_000  # words
_TEXTS_AT_ONCE = 4096


class WordEncoder:
    """The tokens that a tokenizer makes of many texts, asked once for each distinct word.

    Byte-level BPE cuts a text with GPT-2's pattern first, none of whose pieces reaches from a word into the spaces
    after it; added words do not either. So a text's tokens are those of its words. Other tokenizers are given whole
    texts, and so are texts whose words seldom come again.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._by_word = _cuts_at_words(tokenizer)
        self._known: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of all texts, one text's behind the other's, int32 [tokens], and how many each has, int64 [n]."""
        made = [self._encode(texts[i : i + _TEXTS_AT_ONCE]) for i in range(0, len(texts), _TEXTS_AT_ONCE)]
        return np.concatenate([ids for ids, _ in made]), np.concatenate([lens for _, lens in made])

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        spaces = sum(text.count(" ") for text in texts)
        if not self._by_word or sum(map(len, texts)) > _SHORT * (spaces + len(texts)):
            return _joined(self._asked(texts))
        number: defaultdict[str, int] = defaultdict(count().__next__)
        numbers: list[int] = []
        words_of = np.zeros(len(texts), dtype=np.int64)
        for i, text in enumerate(texts):
            words = _WORD.findall(text)
            numbers += map(number.__getitem__, words)
            words_of[i] = len(words)
        known = self._known  # this one: other threads may begin another
        new = [word for word in number if word not in known]
        if len(new) * _NEW > len(numbers):
            return _joined(self._asked(texts))
        known.update(zip(new, self._asked(new), strict=True))
        ids, lens = _joined([known[word] for word in number])
        if len(known) > _KEPT:
            self._known = {}
        return _gathered(ids, lens, np.array(numbers, dtype=np.int64), words_of)

    def _asked(self, texts: Sequence[str]) -> list[list[int]]:
        return [made.ids for made in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _joined(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Their numbers, one list's behind the other's, and how many each has."""
    lens = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    return np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(lens.sum())), lens


def _gathered(
    ids: np.ndarray, lens: np.ndarray, numbers: np.ndarray, words_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of texts that have so many words [n] of these numbers, where word k has `lens[k]` of the ids."""
    sizes = lens[numbers]
    ends = np.cumsum(sizes)
    at = np.arange(sizes.sum()) + np.repeat((np.cumsum(lens) - lens)[numbers] - (ends - sizes), sizes)
    return ids[at], np.diff(np.append(0, ends)[np.cumsum(words_of)], prepend=0)


def _cuts_at_words(tokenizer: Tokenizer) -> bool:
    """Does it cut with GPT-2's pattern, and nothing before that or in another way?"""
    told = json.loads(tokenizer.to_str())
    cut, model = told["pre_tokenizer"] or {}, told["model"]
    return (
        cut.get("type") == "ByteLevel" and cut["use_regex"] and not cut["add_prefix_space"]
        and model["type"] == "BPE" and not model["dropout"]
        and not told["normalizer"] and not told["truncation"] and not told["padding"]
        and not any(map(_reaches_into_spaces, told["added_tokens"]))
    )  # fmt: skip


def _reaches_into_spaces(added: Mapping[str, Any]) -> bool:
    spaces = any(character.isspace() for character in added["content"])
    return spaces or any(added[name] for name in ("lstrip", "rstrip", "single_word"))
