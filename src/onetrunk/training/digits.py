"""The demo's data and measures: scikit-learn's 8 × 8 handwritten digits (Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.answer import Sampling
from onetrunk.data.split import Split
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import Model
from onetrunk.media.image import resize, sheet
from onetrunk.training.open_data import Data, types_and_options
from onetrunk.training.recipe import Recipe, make_recipe

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LABELLED_EACH = 5  # rows of each digit with a label
HELD_OUT = 360
SETTINGS = Path(__file__).with_name("demo.yaml")


def data(seed: int, recipe: Recipe) -> Data:
    """1,437 training rows, 50 of them with label and word (other 50 for every seed), and the same 360 held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images / 16 * 255).round().astype(np.uint8)
    rows = np.arange(len(images))
    train, test = train_test_split(rows, test_size=HELD_OUT, stratify=digits.target, random_state=0)
    train, test = np.sort(train), np.sort(test)
    dice = np.random.default_rng(seed)
    few = {int(i) for k in range(10) for i in dice.permutation(train[digits.target[train] == k])[:LABELLED_EACH]}
    known = [i in few or i in set(test.tolist()) for i in rows.tolist()]
    labels = [int(digits.target[i]) if known[i] else None for i in rows]
    columns: dict[str, Sequence[Any]] = {
        "image": list(images),
        "label": labels,
        "word": [None if label is None else WORDS[label] for label in labels],
    }
    table = Table(columns, "scikit-learn digits")
    types, options = types_and_options(table, recipe, None)
    how = f"{HELD_OUT} rows held out, {len(few)} of the others labelled"
    split = Split(train, np.zeros(0, dtype=np.int64), test, how)
    return Data(table, types, options, ["image"], ["label", "word"], {}, split)


def only(whole: Data, ask: str) -> Data:
    """The same data with one asked column."""
    return Data(whole.table, whole.types, whole.options, whole.given, [ask], {}, whole.split)


def recipe(short: bool, device: str = "auto") -> Recipe:
    """The demo's settings; the short form takes every step and learns little."""
    settings = ["pretrain.steps=40", "finetune.steps=20", "finetune.folds=2"] if short else None
    return make_recipe(SETTINGS, settings, device=device)


def baselines(whole: Data, test: Table) -> dict[str, np.ndarray]:
    """Logistic regression and an SVM on the pixels of the labelled rows: which held-out rows each gets right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    train = whole.rows("train")
    few = [i for i, label in enumerate(train["label"]) if label is not None]
    x, y = _pixels([train["image"][i] for i in few]), np.array([train["label"][i] for i in few])
    truth = np.array(test["label"])
    models = {"logistic regression": LogisticRegression(max_iter=2000), "SVM": SVC(C=10, gamma="scale")}
    return {name: m.fit(x, y).predict(_pixels(test["image"])) == truth for name, m in models.items()}


def right(model: Model, test: Table, ask: str) -> np.ndarray:
    """Which held-out rows the model answers right, from the image alone."""
    answers = model.answer(test, ask, ["image"])
    return np.array([a.value == t for a, t in zip(answers, test[ask], strict=True)])


def draw(model: Model, whole: Data, each: int, seed: int) -> tuple[np.ndarray, Any]:
    """Draws every digit `each` times from its label: which of them an SVM trained on all real training digits (their
    labels are not shown to the model) recognises, and a picture of the first ten of each."""
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    labels = np.repeat(np.arange(10), each)
    sampling = Sampling(guidance=2.0, seed=seed)
    answers = model.answer({"label": labels.tolist()}, "image", ["label"], sampling)
    drawn = np.stack([np.asarray(answer.value) for answer in answers])
    rows = whole.split.train
    judge = SVC(C=10, gamma="scale").fit(_pixels([whole.table["image"][i] for i in rows]), load_digits().target[rows])
    grid = sheet([list(row) for row in drawn.reshape(10, each, *drawn.shape[1:])[:, :10]])
    picture = resize(grid, (grid.shape[1] * 6, grid.shape[0] * 6), "nearest")
    return judge.predict(_pixels(drawn)) == labels, picture


def summary(results: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> dict[str, Any]:
    """Accuracy and interval of each."""
    from onetrunk.evaluation.intervals import wilson

    def figure(correct: np.ndarray) -> dict[str, Any]:
        interval = wilson(int(correct.sum()), len(correct))
        return {"accuracy": float(correct.mean()), "interval": [interval.low, interval.high]}

    order = ["logistic regression", "SVM", "same trunk from scratch", "straight after pretraining"]
    order += [name for name in results if name not in order]
    return {
        "label": {name: figure(results[name]) for name in order},
        **{n: figure(c) for n, c in others.items()},
    }


def _pixels(images: Any) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).reshape(len(images), -1) / 255.0
