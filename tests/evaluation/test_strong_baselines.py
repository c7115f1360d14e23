"""Baselines are as strong as a person could make them in a minute, keep to their time, and say what was left out."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from onetrunk.columns.category.encoder import CategoryEncoder
from onetrunk.columns.category.evaluation import CategoryEvaluation
from onetrunk.columns.families.baselines.boosting import BoostedClassifier, BoostedRegressor
from onetrunk.columns.families.baselines.linear import PENALTIES, LinearClassifier, LinearRegressor
from onetrunk.columns.families.baselines.model_selection import TooLong, climb, log_loss
from onetrunk.columns.families.baselines.ngram_features import NgramFeatures
from onetrunk.columns.families.baselines.views import Views
from onetrunk.columns.families.scalar.evaluation import ScalarEvaluation
from onetrunk.columns.number.encoder import NumberEncoder
from onetrunk.columns.text.encoder import TextEncoder
from onetrunk.columns.text.evaluation import TextEvaluation
from onetrunk.core.events import BaselineDone, Collected
from onetrunk.data import ngrams
from onetrunk.evaluation import baselines
from onetrunk.evaluation.baselines import run_baselines

HANZI = [chr(0x4E00 + i) for i in range(300)]


def _category(values: Sequence[Any]) -> Any:
    encoder = CategoryEncoder(None)
    encoder.fit(values)
    return CategoryEvaluation(encoder)


def _number(values: Sequence[Any]) -> Any:
    encoder = NumberEncoder(None)
    encoder.fit(values)
    return ScalarEvaluation(encoder)


def _text() -> Any:
    return TextEvaluation(TextEncoder(None))


def _chinese(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences without spaces but for one here and there; a pair of characters says which class it is."""
    dice, texts, labels = np.random.default_rng(seed), [], []
    for i in range(n):
        characters = dice.choice(HANZI, 24).tolist()
        characters.insert(int(dice.integers(24)), ("好的", "不行")[i % 2])
        if dice.random() < 0.3:
            characters.insert(int(dice.integers(24)), " ")
        texts.append("".join(characters))
        labels.append(("good", "bad")[i % 2])
    return texts, labels


def _english(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Words of two letters only have all their short parts in common; which words there are says the class."""
    words = ["".join(np.random.default_rng(k).choice(list("ab"), 14)) for k in range(60)]
    dice, texts, labels = np.random.default_rng(seed), [], []
    for i in range(n):
        mine = words[:30] if i % 2 else words[30:]
        texts.append(" ".join([*dice.choice(words, 8), *dice.choice(mine, 8)]))
        labels.append(("good", "bad")[i % 2])
    return texts, labels


@pytest.mark.parametrize(("make", "seen"), [(_chinese, {"characters"}), (_english, {"words"})])
def test_words_or_characters_by_what_predicts_better(make: Any, seen: set[str]) -> None:
    texts, labels = make(300, 0)
    held_out, truths = make(200, 1)
    views = _text().views()
    blocks = {name: view.fit_transform(texts) for name, view in views.items()}
    model = LinearClassifier().fit(Views.joined([blocks], len(texts)), np.array(labels))
    assert seen <= set(model.texts_)
    answered = model.predict(Views.joined([{n: v.transform(held_out) for n, v in views.items()}], len(held_out)))
    right = np.mean(answered == np.array(truths))
    chosen_loss = min(model.losses_.values())
    for name in [name for name in ("words", "characters") if blocks[name].shape[1]]:
        alone = LinearClassifier().fit(Views.joined([{name: blocks[name]}], len(texts)), np.array(labels))
        assert chosen_loss <= min(alone.losses_.values()) + 1e-9
    assert right >= 0.9


@pytest.mark.parametrize("characters_at_once", [1, 30, 1_000_000])
def test_ngrams_are_weighed_as_tf_idf_is(monkeypatch: pytest.MonkeyPatch, characters_at_once: int) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["The cat sat. The cat ran", "a cat sat", "the dog ran ran", "nothing here of it all"] * 2
    monkeypatch.setattr(ngrams, "_CHARACTERS_AT_ONCE", characters_at_once)
    ours = NgramFeatures("words").fit(texts)
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\w+").fit(texts)
    x, y = ours.transform(texts), theirs.transform(texts)
    assert x.shape == y.shape
    assert (ours.fit_transform(texts) != x).nnz == 0
    np.testing.assert_allclose((x @ x.T).toarray(), (y @ y.T).toarray(), atol=1e-5)
    assert ours.transform(["unheard of"]).nnz == theirs.transform(["unheard of"]).nnz


def _noisy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(n, 60))
    return x, x[:, 0] + np.random.default_rng(seed + 1).normal(0, 1.5, n)


def test_the_penalty_that_is_chosen_beats_bad_ones() -> None:
    (x, y), (new_x, new_y) = _noisy(90, 0), _noisy(2000, 5)
    chosen = LinearClassifier().fit(x, y > 0)
    fixed = [LinearClassifier(penalty).fit(x, y > 0) for penalty in (PENALTIES[0], PENALTIES[-1])]
    losses = [log_loss(model.predict_proba(new_x), (new_y > 0).astype(int)) for model in (chosen, *fixed)]
    assert losses[0] < min(losses[1:])
    chosen = LinearRegressor().fit(x, y)
    fixed = [LinearRegressor(penalty).fit(x, y) for penalty in (PENALTIES[0], PENALTIES[-1])]
    errors = [((model.predict(new_x) - new_y) ** 2).mean() for model in (chosen, *fixed)]
    assert errors[0] < min(errors[1:])


def test_the_search_goes_on_as_long_as_it_gets_better() -> None:
    asked: list[int] = []

    def loss(i: int) -> float:
        asked.append(i)
        return (i - 7) ** 2

    assert climb(loss, 12, 3)[0] == 7 and asked == [3, 4, 5, 6, 7, 8]
    assert climb(loss, 12, 10)[0] == 7
    assert climb(lambda i: None, 12, 3) == (3, {})


def test_trees_see_means_of_classes_from_other_rows_only() -> None:
    """Values that stand once tell nothing; were a row's own truth in its mean, they would tell all."""
    dice = np.random.default_rng(0)
    n = 600
    known = dice.integers(0, 100, n)
    effect = dice.normal(size=100)
    y = effect[known] + dice.normal(0, 0.3, n)
    keys = np.array([[f"k{k}", f"half {i // 2}"] for i, k in enumerate(known)], dtype=object)
    model = BoostedRegressor().fit(Views.joined([{"keys": keys}], n), y)
    new = dice.integers(0, 100, 500)
    new_keys = np.array([[f"k{k}", "never seen"] for k in new], dtype=object)
    truth = effect[new] + dice.normal(0, 0.3, 500)
    error = ((model.predict(Views.joined([{"keys": new_keys}], 500)) - truth) ** 2).mean()
    assert error < 0.4 * truth.var()


def test_trees_take_missing_numbers_and_rare_classes() -> None:
    values = [*np.random.default_rng(0).normal(size=80).tolist(), *[None] * 40]
    labels = ["missing" if v is None else "up" if v > 0 else "down" for v in values]
    labels[0] = "only once"
    given, asked = _number(values[:80]), _category(labels)
    result = run_baselines({"x": given}, asked, {"x": values}, {"x": values}, labels, labels)
    assert list(result) == ["majority", "logistic regression", "gradient boosting"]
    assert result["gradient boosting"].metrics["accuracy"] > 0.95
    assert result["logistic regression"].metrics["accuracy"] > 0.9


def test_several_classes_a_row() -> None:
    dice = np.random.default_rng(0)
    rows = [[name for name in "abc" if dice.random() < 0.5] for _ in range(80)]
    x = [[float("a" in row), float("b" in row), float("c" in row)] for row in rows]
    y = np.array([[int(name in row) for name in "abcd"] for row in rows])  # nobody is d
    model = LinearClassifier().fit(np.array(x), y)
    assert ((model.predict_proba(np.array(x)) > 0.5) == y).all()


class Clock:
    """Time that goes on by a step each time it is looked at."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def _table(n: int) -> tuple[dict[str, list[float]], list[str]]:
    x = np.random.default_rng(n).normal(size=n)
    return {"x": x.tolist()}, ["up" if v > 0 else "down" for v in x]


def test_what_there_was_no_time_for_is_said_and_the_naive_one_always_runs() -> None:
    (train, y), (test, truth) = _table(300), _table(50)
    heard = Collected()
    result = run_baselines(
        {"x": _number(train["x"])}, _category(y), train, test, y, truth,
        seconds=60, clock=Clock(1000.0), on_event=heard, name="way",
    )  # fmt: skip
    assert result["majority"].metrics is not None and result["majority"].note == ""
    for name in ("logistic regression", "gradient boosting"):
        assert result[name].answers is None
        assert result[name].note.startswith("skipped") and "it would take longer than 60 s" in result[name].note
    events = heard.of(BaselineDone)
    assert [(event.ask, event.name) for event in events] == [("way", name) for name in result]
    assert [event.value is None for event in events] == [False, True, True]


def test_half_of_the_time_lets_the_first_run_and_less_be_tried() -> None:
    (train, y), (test, truth) = _table(240), _table(50)
    result = run_baselines(
        {"x": _number(train["x"])}, _category(y), train, test, y, truth, seconds=60, clock=Clock(2.0)
    )  # fmt: skip
    assert result["logistic regression"].metrics["accuracy"] > 0.9
    assert "it would take longer than 60 s" in result["gradient boosting"].note


def test_an_estimator_that_cannot_learn_in_its_time_says_so() -> None:
    x = np.random.default_rng(0).normal(size=(3000, 4))
    with pytest.raises(TooLong):
        LinearRegressor(seconds=5, clock=Clock(1.0)).fit(x, x[:, 0])
    with pytest.raises(TooLong):
        BoostedClassifier(seconds=5, clock=Clock(1.0)).fit(x, x[:, 0] > 0)
    tight = LinearRegressor(seconds=100, clock=Clock(2.0)).fit(x, x[:, 0])
    assert tight.predict(x).shape == (3000,)


def test_more_weights_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from onetrunk.columns.families.baselines import linear

    monkeypatch.setattr(linear, "_MAX_WEIGHTS", 10)
    with pytest.raises(ValueError, match="3 classes by 4 features are too many weights"):
        LinearClassifier().fit(np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3)


def test_texts_give_words_characters_and_themselves() -> None:
    views = _text().views()
    blocks = {name: view.fit_transform(["a b", None, "a b"]) for name, view in views.items()}
    assert blocks["words"].shape[0] == 3 and sparse.issparse(blocks["characters"])
    assert blocks["keys"].ravel().tolist() == ["a b", "", "a b"]


def test_without_the_time_to_look_the_columns_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_TRIED_VALUES", 8)
    (train, y), (test, truth) = _table(300), _table(50)
    given = _number(train["x"])
    result = run_baselines({"x": given}, _category(y), train, test, y, truth, seconds=10, clock=Clock(1.0))
    assert "x not used: looking at it would take longer than 10 s" in result["logistic regression"].note


@pytest.mark.data
def test_chinese_hotel_reviews_are_read_by_characters() -> None:
    place = Path(os.environ.get("ONETRUNK_DATA", Path(__file__).parents[3] / "shared" / "data")) / "chnsenticorp_hotel"
    if not place.exists():
        pytest.skip("chnsenticorp_hotel is absent")

    def rows(part: str) -> tuple[list[str], list[str]]:
        with open(place / f"{part}.csv", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        return [row["review"] for row in table], [row["label"] for row in table]

    (texts, labels), (held_out, truths) = rows("train"), rows("val")
    asked = _category(labels)
    result = run_baselines({"r": _text()}, asked, {"r": texts}, {"r": held_out}, labels, truths, seconds=600)
    assert result["logistic regression"].metrics["accuracy"] >= 0.885
