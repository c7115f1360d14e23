"""Text: tokenizers that other programs open, words written from left to right, tokens hidden as in BERT."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import worlds
from tokenizers import Tokenizer

from onetrunk.columns.families.tokens import tokenizers
from onetrunk.columns.families.tokens.special_tokens import END, MASK, SPECIALS, START, UNKNOWN
from onetrunk.core.answer import Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError, UsageError
from onetrunk.inference.likelihood import mean_loss

Text = partial(worlds.Sides, "text")
ENGLISH = ["The room was clean, the staff friendly.", "Never again: noise all night!", "A fine old house; I'd return."]
CHINESE = ["房间很干净，服务员态度也好。", "晚上太吵了，再也不来了！", "早餐不错，离地铁站很近。"]
UNITS = pytest.mark.parametrize("unit", ["bpe", "character"])


def fitted(values: list[str], width: int | None = None, **options: Any) -> Any:
    sides = Text(options)
    sides.fit(values)
    if width:
        sides.build(width)
        worlds.wake(sides)
    return sides


def ids_of(sides: Any, text: str) -> list[int]:
    return sides.encode(text)["id"].tolist()


# -- tokenizers ----------------------------------------------------------------------------------------------
@UNITS
@pytest.mark.parametrize("texts", [ENGLISH, CHINESE, ENGLISH + CHINESE], ids=["english", "chinese", "both"])
def test_every_text_comes_back(unit: str, texts: list[str]) -> None:
    sides = fitted(texts, unit=unit)
    unseen = ["clean house", "房间不错！"] if unit == "bpe" else []
    for text in [*texts, *unseen, ""]:
        ids = ids_of(sides, text)
        assert sides.tokenizer.decode(ids) == text
        assert UNKNOWN not in ids
    assert (unit == "bpe") == (ids_of(sides, "🦀") != [UNKNOWN]), "bytes know everything, characters what they met"


@UNITS
def test_many_texts_are_encoded_as_each_of_them(unit: str) -> None:
    sides = fitted(ENGLISH + CHINESE, unit=unit)
    values = ["", *ENGLISH, None, "\ud800", *CHINESE, "", "🦀", 3]
    reasons: dict[int, str] = {}
    content, present = sides.encoder.encode_all(values, reasons.__setitem__)
    expected = sides.encoder.stack([sides.encode(v) for v, there in zip(values, present, strict=True) if there])
    assert np.flatnonzero(~present).tolist() == [4, 5] and reasons.keys() == {5}
    assert content.lens.tolist() == expected.lens.tolist() and content.data.keys() == expected.data.keys()
    for name, array in content.data.items():
        assert array.dtype == expected.data[name].dtype and (array == expected.data[name]).all()


@pytest.mark.parametrize(
    ("values", "sure"),
    [
        (["short", "a"], True),
        (["x" * 20], True),
        (["x" * 21], False),
        (["好" * 6], True),
        (["好" * 7], False),
        (["a", "\ud800"], False),
        (["", ""], False),
        (["a", 3], False),
        ([], False),
    ],
)
def test_what_is_sure_before_learning_holds_after_it(values: list[Any], sure: bool) -> None:
    sides = Text({"length": 20})
    assert sides.encoder.loses_nothing(values) == sure and not Text({"unit": "character"}).encoder.loses_nothing(["a"])
    if sure:
        sides.fit(values)
        content, present = sides.encoder.encode_all(values, lambda i, reason: pytest.fail(reason))
        assert present.all() and not sides.encoder.dropped(content)


@UNITS
def test_other_programs_open_the_tokenizer_and_find_the_same_ids(unit: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sides = fitted(ENGLISH * 3 + CHINESE * 3, unit=unit)
    (tmp_path / "tokenizer.json").write_text(sides.assets()["tokenizer.json"], encoding="utf-8")
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in [*ENGLISH, *CHINESE, "Clean 房间, a new line\nand a tab\t."]:
        ids = ids_of(sides, text)
        assert plain.encode(text, add_special_tokens=False).ids == ids
        assert fast(text, add_special_tokens=False)["input_ids"] == ids


@UNITS
def test_one_by_one_and_together_are_encoded_alike(unit: str) -> None:
    sides = fitted(ENGLISH + CHINESE, unit=unit)
    values = [*ENGLISH, None, "", *CHINESE, "\ud800", "<|end|>"]
    bad: list[int] = []
    content, present = sides.encode_all(values, lambda i, reason: bad.append(i))
    assert bad == [8] and present.tolist() == [v is not None and v != "\ud800" for v in values]
    single = [ids_of(sides, v) for v, there in zip(values, present, strict=True) if there]
    assert content.lens.tolist() == [len(ids) for ids in single]
    assert content.gather()["id"].tolist() == [i for ids in single for i in ids]


@UNITS
def test_special_tokens_in_a_persons_text_are_text(unit: str) -> None:
    texts = [*ENGLISH, "He typed <|end|> and <|start|>."] * 2
    sides = fitted(texts, unit=unit)
    for text in ("<|end|>", "He typed <|end|> and <|start|>.", "<|mask|><|unknown|>"):
        assert not {START, END, MASK} & set(ids_of(sides, text))
    assert sides.tokenizer.decode(ids_of(sides, texts[3])) == texts[3]
    assert sides.tokenizer.get_vocab()["<|end|>"] == END and list(SPECIALS).index("<|mask|>") == MASK


def test_a_lone_surrogate_is_refused_and_other_things_are_written_out() -> None:
    sides = fitted(ENGLISH)
    with pytest.raises(BadValueError, match="lone surrogate"):
        sides.encode("a\ud800b")
    assert ids_of(sides, 12) == ids_of(sides, "12")  # type: ignore[arg-type]


def test_vocabularies_grow_with_the_text_or_are_as_told() -> None:
    varied = [f"{a}{b} {b}{a}{a}" for a in "abcdefghijklmnop" for b in "qrstuvwxyzabcde"] * 4
    assert fitted(varied, vocabulary=300).size == 300
    assert fitted(varied).size == 512
    with pytest.raises(UsageError, match="vocabulary"):
        Text({"vocabulary": 3})
    with pytest.raises(DataError, match="not empty"):
        fitted(["", ""])


def test_characters_met_once_in_many_texts_are_unknown() -> None:
    sides = fitted(["abc", "cab"] * 600 + ["abq"], unit="character")
    assert ids_of(sides, "q") == [UNKNOWN] and UNKNOWN not in ids_of(sides, "abc")
    content = worlds.content_of(sides, ["qqa", "abc"])
    assert sides.dropped(content) == {"unknown characters": 2}
    assert sides.dropped(content.take(np.zeros(0, dtype=np.int64))) == {}, "of what is not among these nothing"


@UNITS
def test_new_words_get_tokens_and_old_ones_keep_theirs(unit: str) -> None:
    sides = fitted(ENGLISH * 3, 8, unit=unit)
    before, table, head = ids_of(sides, ENGLISH[0]), sides.table.data.clone(), sides.head.data.clone()
    word = "grammatophon" if unit == "bpe" else "猫"
    pieces = ids_of(sides, word)
    assert sides.extend([f"a {word} plays"] * 5) > 0
    assert ids_of(sides, ENGLISH[0]) == before
    (new,) = ids_of(sides, word)
    assert torch.equal(sides.table[: len(table)], table) and torch.equal(sides.head[: len(head)], head)
    torch.testing.assert_close(sides.table[new], table[pieces].mean(0))
    assert sides.tokenizer.decode(ids_of(sides, f"a {word}!" if unit == "bpe" else word)).strip("!").endswith(word)
    again = Text({"unit": unit})
    again.set_knowledge(sides.knowledge())
    assert ids_of(again, word) == [new] and sides.extend([f"a {word} plays"] * 5) == 0


@pytest.mark.parametrize("word", ["crème", "naïveté", "Şişliğin", "слово", "äöüß", "grammatophon"])
def test_a_word_that_was_added_is_read_and_written_as_it_is_spelt(word: str) -> None:
    """Letters up to U+0143 are also the signs in which byte-level pieces are spelt."""
    sides = fitted(ENGLISH * 3, 8)
    texts = [word, f"a {word} plays", f"{word}{word}", f"猫{word}猫 {word}", f"a {word}!"]
    assert sides.extend([f"a {word} plays"] * 5) > 0 and len(ids_of(sides, word)) == 1
    again = Text({})
    again.set_knowledge(sides.knowledge())
    for encoder in (sides.encoder, again):
        spellings = encoder.spellings()
        for text in texts:
            ids = encoder.encode(text)["id"].tolist()
            assert encoder.decode([START, *ids, END]) == text
            assert b"".join(spellings[i] for i in ids).decode() == text
            whole, spans = encoder.spelt(ids)
            assert whole == text and "".join(text[a:b] for a, b in spans) == text
        content, _ = encoder.encode_all(texts, lambda *_: None)
        assert encoder.wide_features(content).key is not None


def test_spelt_control_tokens_are_read_while_another_thread_reads() -> None:
    """A tokenizer that is told to read otherwise for a moment is one that nobody else can read by."""
    sides, stop = fitted(ENGLISH * 20), threading.Event()
    gapped = ENGLISH[0].replace("a", sides.encoder.gap, 1)
    expected, faults = sides.encoder.encode_gaps(gapped)["id"].tolist(), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                sides.encoder.encode_all(ENGLISH * 50, lambda *_: None)
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(100):
            assert sides.encoder.encode_gaps(gapped)["id"].tolist() == expected
    finally:
        stop.set()
        thread.join()
    assert not faults


# -- roles ---------------------------------------------------------------------------------------------------
def test_a_text_is_written_from_start_to_end() -> None:
    sides = fitted(["abcd"], unit="character")
    content = worlds.content_of(sides, ["abc", "", "d"])
    a, b, c, d = (ids_of(sides, x)[0] for x in "abcd")
    segment = sides.segment(content, Role.ASKED, worlds.keys(3))
    assert segment.content["id"].tolist() == [START, a, b, c, START, START, d]
    assert segment.targets["id"].tolist() == [a, b, c, END, END, d, END]
    assert segment.lens.tolist() == [4, 1, 2] and segment.order.tolist() == [0, 1, 2, 3, 0, 0, 1]


def test_windows_of_a_long_text_cover_it_and_open_with_what_came_before() -> None:
    text = "".join(chr(ord("a") + i) for i in range(26))
    sides = fitted([text], unit="character", length=8)
    content = worlds.content_of(sides, [text])
    whole = [*ids_of(sides, text), END]
    seen = set()
    for key in range(200):
        segment = sides.segment(content, Role.ASKED, worlds.keys(1, key), True)
        first = whole.index(segment.targets["id"][0])
        assert segment.targets["id"].tolist() == whole[first : first + 8]
        assert segment.content["id"].tolist() == [START if first == 0 else whole[first - 1], *whole[first : first + 7]]
        seen.add(first)
    assert seen == set(range(27 - 8 + 1)), "every window is drawn"
    first = sides.segment(content, Role.ASKED, worlds.keys(1))
    assert first.content["id"][0] == START, "without augmentation the text's beginning"
    assert sides.segment(content, Role.GIVEN, worlds.keys(1), True).content["id"].tolist() == whole[:8]
    assert sides.dropped(content) == {"texts longer than 8 tokens, of which only 8 are seen": 1}


def test_masking_hides_as_many_and_as_bert_does() -> None:
    text = "abcdefgh" * 25
    sides = fitted([text], unit="character", mask_rate=0.3)
    content = worlds.content_of(sides, [text] * 200)
    segment = sides.segment(content, Role.MASKED, worlds.keys(200))
    truth, visible = np.tile(ids_of(sides, text), 200), segment.content["id"]
    hidden = np.zeros(len(truth), dtype=bool)
    hidden[segment.reads] = True
    assert abs(hidden.mean() - 0.3) < 0.03
    assert (visible[~hidden] == truth[~hidden]).all() and (segment.targets["id"] == truth[hidden]).all()
    assert abs((visible[hidden] == MASK).mean() - (0.8 + 0.1 / sides.size)) < 0.01
    assert abs((visible[hidden] == truth[hidden]).mean() - (0.1 + 0.1 / sides.size)) < 0.01


def test_words_are_dropped_in_training_only() -> None:
    sides = fitted(["abcdefgh" * 30], unit="character", word_dropout=0.4)
    content = worlds.content_of(sides, ["abcdefgh" * 30] * 20)
    shares = [
        (sides.segment(content, Role.GIVEN, worlds.keys(20), augment).content["id"] == MASK).mean()
        for augment in (True, False)
    ]
    assert abs(shares[0] - 0.4) < 0.03 and shares[1] == 0


def test_smoothing_is_of_training_only() -> None:
    sides = fitted(["to be or not to be"] * 3, 8, unit="character", smoothing=0.1)
    h, ids, w = torch.randn(5, 8), torch.tensor([3, 4, 5, 4, 3]), torch.tensor([1.0, 0, 2, 1, 1])
    for training, smoothing in ((True, 0.1), (False, 0.0)):
        loss = sides.train(training).loss(h, {"id": ids, "w": w})
        each = F.cross_entropy(F.linear(*sides.readout(h)), ids, reduction="none", label_smoothing=smoothing).detach()
        torch.testing.assert_close(loss.each, each)


def test_bigrams_tell_neighbours_apart_and_are_the_same_when_written() -> None:
    sides = fitted(["abc"], 8, unit="character", bigrams=64)
    content = worlds.content_of(sides, ["ab", "ba", "abc"])
    asked = sides.segment(content, Role.ASKED, worlds.keys(3)).content["bigram"]
    a, b, c = (ids_of(sides, x)[0] for x in "abc")
    state = sides.start(worlds.context(worlds.keys(1)))
    written = []
    for token in (a, b, c):
        written.append(int(sides.query(state).content["bigram"]))
        state["ids"] = torch.cat([state["ids"], torch.tensor([[token]])], dim=1)
        state["seen"], state["size"] = state["size"], state["size"] + 1
    assert written == asked[6:9].tolist()
    prompted = sides.start(worlds.context(worlds.keys(1), prompt=content.take(np.array([2]))))
    assert sides.query(prompted).content["bigram"].tolist() == asked[6:].tolist()
    given = sides.segment(content, Role.GIVEN, worlds.keys(3)).content["bigram"]
    assert given[1] != given[3] and given[1] == given[5], "ab is not ba, and is ab elsewhere"


def test_only_the_most_frequent_bigrams_have_vectors_and_none_met_once_among_many_texts() -> None:
    texts = ["ab"] * 600 + ["cd"] * 401 + ["ef"]
    for most, named in ((2, [(0, "a"), ("a", "b")]), (64, [(0, "a"), (0, "c"), ("a", "b"), ("c", "d")])):
        sides = fitted(texts, 8, unit="character", bigrams=most)
        before = [0 if x == 0 else 1 + ids_of(sides, x)[0] for x, _ in named]
        expected = sorted((x << 32) + ids_of(sides, y)[0] for x, (_, y) in zip(before, named, strict=True))
        assert sides.bigrams.tolist() == expected and len(sides.bigram_table) == 1 + len(named)
        again = Text({"unit": "character", "bigrams": most})
        again.set_knowledge(sides.knowledge())
        assert again.bigrams.tolist() == expected
        rows = sides.segment(worlds.content_of(sides, ["ab", "ad"]), Role.GIVEN, worlds.keys(2)).content["bigram"]
        assert rows[0] == rows[2] > 0 and rows[3] == 0, "a bigram that was never seen has no vector of its own"


def test_a_dropped_token_takes_its_bigram_along() -> None:
    sides = fitted(["abcdefgh" * 9], unit="character", bigrams=64, word_dropout=0.5)
    content = worlds.content_of(sides, ["abcdefgh" * 9] * 20)
    visible = sides.segment(content, Role.GIVEN, worlds.keys(20), augment=True).content
    assert 0.4 < (visible["bigram"] == 0).mean() < 0.6
    assert ((visible["id"] == MASK) == (visible["bigram"] == 0)).all()


# -- answers -------------------------------------------------------------------------------------------------
def test_nothing_is_written_after_the_end_and_no_more_than_told() -> None:
    sides = fitted(["abc"], 8, unit="character").eval()
    sampling = Sampling(temperature=1.0, max_length=6)
    state = sides.start(worlds.context(worlds.keys(200), sampling))
    while not bool(state["done"].all()):
        state = sides.step(state, torch.zeros(200, 1, 8), None)
    ids = state["ids"][:, 1:]
    assert ids.shape[1] <= 6
    ended = (ids == END).cumsum(1) > 0
    assert (ids[ended] == END).all() and not torch.isin(ids, torch.tensor([UNKNOWN, START, MASK])).any()
    for answer, row in zip(sides.finish(state), ids.tolist(), strict=True):
        letters = row.index(END) if END in row else 6
        assert len(answer.value) == letters
        # Four things may be written, all alike: a, b, c and the end.
        assert answer.logprob == pytest.approx(-np.log(4) * min(letters + 1, 6), rel=1e-4)


def test_mean_loss_counts_every_token_of_long_texts_once() -> None:
    rows = {"title": ["abcabcabcabcabcabcabcab", "abc", "", "cab"]}
    made = worlds.model(rows, {"title": "text"}, options={"title": {"unit": "character", "length": 5}})
    store, sides = worlds.store_of(made, rows), worlds.Sides.of(made, "title")
    with torch.no_grad():
        sides.head.zero_()
    # A read-out of zeros finds every token of the vocabulary alike, however the text is cut.
    assert mean_loss(made.network, store, [], "title") == pytest.approx(np.log(sides.size), rel=1e-5)
    content, whose = sides.successive_windows(store.contents[0])
    assert np.bincount(whose).tolist() == [5, 1, 1, 1]
    joined = [content.take(np.flatnonzero(whose == i)).gather()["id"].tolist() for i in range(4)]
    assert joined == [ids_of(sides, t) for t in rows["title"]]


@pytest.mark.parametrize("cell", ["a" * 200_000, " " * 200_000, "".join(map(chr, range(0x4E00, 0x9000))) * 8])
def test_one_long_unbroken_cell_is_learnt_in_pieces(cell: str) -> None:
    """The trainer's time grows with the square of a run's length: without pieces this takes minutes."""
    seen = list(tokenizers._cut(["two words", cell, f"word {cell[:2500]} word"]))
    assert "".join(seen) == "two words" + cell + f"word {cell[:2500]} word" and seen[0] == "two words"
    assert max(map(len, seen)) <= 1000 + len("word ")
    sides = fitted(["some words to learn", cell])
    assert sides.decode(ids_of(sides, cell)) == cell
