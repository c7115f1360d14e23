"""Encoded word by word, texts have the tokens that the tokenizer makes of each of them."""

from __future__ import annotations

import itertools
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from onetrunk.columns.families.tokens.tokenizers import character_tokenizer, train_bpe
from onetrunk.columns.text.words import WordEncoder

TEXTS = ["The room was clean, the staff friendly; I'd return.", "Never again: noise all night!", "房间很干净"]
SPACES = [c for c in map(chr, range(sys.maxunicode)) if c.isspace() or unicodedata.category(c) in ("Zs", "Cf", "Cc")]


class Counting:
    """A tokenizer that counts the texts it is given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.asked, self._tokenizer = 0, tokenizer
        self.to_str = tokenizer.to_str

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> Any:
        self.asked += len(texts)
        return self._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)


def bpe() -> Tokenizer:
    tokenizer = train_bpe(TEXTS * 20, 400)
    tokenizer.encode_special_tokens = True
    return tokenizer


def check(tokenizer: Tokenizer, texts: list[str]) -> int:
    """Compares what both make of the texts, twice; returns how many the tokenizer was given."""
    counting: Any = Counting(tokenizer)
    words, expected = WordEncoder(counting), tokenizer.encode_batch(texts, add_special_tokens=False)
    for _ in range(2):
        ids, lens = words.encode(texts)
        assert lens.tolist() == [len(each.ids) for each in expected]
        assert ids.tolist() == [i for each in expected for i in each.ids]
        assert ids.dtype == np.int32 and lens.dtype == np.int64
    return int(counting.asked)


def test_a_word_is_asked_for_once() -> None:
    whole = " ".join(TEXTS)
    assert check(bpe(), [whole, "", *TEXTS] * 1000) == len({*whole.split()[1:]}) + len(TEXTS), "with a space, or first"


@pytest.mark.parametrize("around", [" ", "\n", "\t ", "'", "a", "é1", "…", "<|end|>"])
def test_whatever_stands_between_words(around: str) -> None:
    every = [
        "a" + "".join(run) + "b 1'll" for n in (1, 2, 3) for run in itertools.product([" ", "\n", around], repeat=n)
    ]
    ends = [f"{around}{text}{around}" for text in TEXTS[:2]]
    assert check(bpe(), (every + ends) * 50) < 500


def test_words_that_were_added() -> None:
    tokenizer = bpe()
    tokenizer.add_tokens([AddedToken("night", normalized=False), AddedToken("房间", normalized=False)])
    texts = [
        "all night",
        "all  night\n\nnight",
        " night ",
        "  night  night",
        "midnight, 很房间 房间  房间",
        "a \n night!",
    ]
    assert check(tokenizer, texts * 40) < 50


def test_every_space_of_unicode_and_what_looks_like_one() -> None:
    tokenizer = bpe()
    for some in (SPACES[i::20] for i in range(20)):
        texts = [text for c in some for text in (f"a{c}b", f"a {c}b", f"a{c} b", f"a{c}{c} {c}")]
        assert check(tokenizer, texts * 40) < 6 * len(texts)


def test_words_that_seldom_come_again_are_given_as_whole_texts() -> None:
    dice = np.random.default_rng(0)
    texts = [" ".join(map(str, dice.integers(0, 1 << 40, 20))) for _ in range(100)]
    assert check(bpe(), texts) == 2 * len(texts)
    assert check(bpe(), [TEXTS[2] * 3] * 100) == 2 * 100, "words that are sentences"


def other(change: Callable[[Tokenizer], None]) -> Tokenizer:
    tokenizer = bpe()
    change(tokenizer)
    return tokenizer


def joins_words(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def prefixed(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def normal(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Replace(" t", "t")


def added(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("n the ", normalized=False)])


def short(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(3)


def special(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken("the room", lstrip=True)])
    tokenizer.encode_special_tokens = False


@pytest.mark.parametrize("change", [joins_words, prefixed, normal, added, short, special])
def test_tokenizers_whose_tokens_may_reach_further(change: Callable[[Tokenizer], None]) -> None:
    texts = ["The room in the  the room", *TEXTS[:2]] * 100
    assert check(other(change), texts) == 2 * len(texts)


def test_other_models() -> None:
    assert check(character_tokenizer(sorted(set("".join(TEXTS)))), TEXTS * 100) == 2 * 300
    assert check(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), TEXTS * 100) == 2 * 300
