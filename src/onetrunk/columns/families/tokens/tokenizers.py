"""Tokenizers that are learnt from the user's rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from onetrunk.columns.families.tokens.special_tokens import SPECIALS, UNKNOWN

_LONG_RUN = re.compile(r"\S{1000}|\s{1000}")


def character_tokenizer(characters: list[str]) -> Tokenizer:
    """One token a character; of others, the unknown one."""
    vocabulary = {token: i for i, token in enumerate(SPECIALS + characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def train_bpe(texts: list[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE with at most so many tokens. Tokens end where an unbroken run of text is longer than any word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_cut(texts), trainer)
    return tokenizer


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """Texts, cut where a run without a space, or of spaces, is very long: the trainer's time grows with the square of a
    run's length (200,000 characters would take minutes)."""
    for text in texts:
        start = 0
        for run in _LONG_RUN.finditer(text):
            yield text[start : run.end()]
            start = run.end()
        yield text[start:]
