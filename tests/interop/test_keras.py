"""The source text's model, Embedding(10000, 16), LSTM(32) twice, Dense(1, sigmoid): Keras's weights, and our own."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds

import onetrunk
from onetrunk.core.config import parse_yaml
from onetrunk.core.errors import ModelFileError
from onetrunk.inference.model_folder import load
from onetrunk.interop import keras as ours

h5py = pytest.importorskip("h5py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def keras() -> Any:
    """With PyTorch below."""
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


def sequential(keras: Any, *, words: int = 10_000, units: tuple[int, ...] = (32, 32), classes: int = 1) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            layers.Embedding(words, 16),
            *(layers.LSTM(n, return_sequences=i + 1 < len(units)) for i, n in enumerate(units)),
            layers.Dense(classes, activation="sigmoid" if classes == 1 else "softmax"),
        ]
    )
    made(np.zeros((1, 3), dtype=np.int32))
    for weight in made.weights:  # not the small ones that it begins with: differences must show
        weight.assign(np.random.default_rng(len(weight.shape)).normal(0, 0.3, weight.shape))
    return made


@pytest.mark.parametrize(("name", "classes"), [("m.weights.h5", 1), ("m.h5", 1), ("m.weights.h5", 3)])
def test_its_weights_give_its_outputs(keras: Any, tmp_path: Path, name: str, classes: int) -> None:
    theirs = sequential(keras, classes=classes)
    (theirs.save_weights if "weights" in name else theirs.save)(tmp_path / name)
    onetrunk.import_(str(tmp_path / name), out=str(tmp_path / "m"), quiet=True)
    model = load(tmp_path / "m")
    dice = np.random.default_rng(1)
    for length in (1, 12):
        ids = dice.integers(0, 10_000, (8, length))
        expected = theirs.predict(ids, verbose=0)
        answers = model.predict({"text": [" ".join(map(str, row)) for row in ids.tolist()]})
        columns = ["label_p_1"] if classes == 1 else [f"label_p_{c}" for c in range(classes)]
        np.testing.assert_allclose(answers[columns].to_numpy(), expected, atol=1e-5)


def test_words_stand_for_their_numbers_and_it_is_trained_on(keras: Any, tmp_path: Path) -> None:
    sequential(keras, words=50).save_weights(tmp_path / "m.weights.h5")
    words = {"[UNK]": 1, "good": 4, "bad": 7, "room": 9, "rare": 60}
    (tmp_path / "words.json").write_text(json.dumps(words))
    onetrunk.import_(str(tmp_path / "m.weights.h5"), out=str(tmp_path / "m"),
                     words=str(tmp_path / "words.json"), quiet=True)  # fmt: skip
    model = load(tmp_path / "m")
    options = model.encoder("text").encode("A good, BAD room; rare!")["id"].tolist()
    assert options == [1, 4, 7, 9, 1]
    rows = {"text": [f"{w} room" for w in ("good", "bad")] * 40, "label": [1, 0] * 40}
    tuned = onetrunk.finetune(rows, ask=["label"], given=["text"], start=str(tmp_path / "m"),
                              out=str(tmp_path / "t"), quiet=True, split="random:50/30/20", allow_equal_rows=True,
                              settings=["finetune.steps=60", "train.tensorboard=false", "train.lr=0.01"])  # fmt: skip
    assert tuned.predict({"text": ["good room", "bad room"]})["label"].tolist() == [1, 0]


def test_what_is_not_such_a_file_is_refused(keras: Any, tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(ModelFileError, match=message):
            ours.read(path)

    pickled = tmp_path / "m.h5"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    refused(pickled, "no HDF5 file but a pickle")
    theirs = sequential(keras, words=20, units=(16,))
    theirs.save(tmp_path / "m.keras")
    assert ours.is_weights(tmp_path / "m.keras")
    refused(tmp_path / "m.keras", r"no HDF5 file but a pickle or a zip.*save_weights")
    theirs.save_weights(tmp_path / "whole.weights.h5")
    raw = (tmp_path / "whole.weights.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(raw[: len(raw) // 2])
    refused(tmp_path / "cut.h5", "not a whole HDF5 file")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("whole.weights.h5", "/layers")
    refused(tmp_path / "linked.h5", "link to elsewhere")
    other = keras.Sequential([keras.layers.Dense(3)])
    other(np.zeros((1, 2), dtype=np.float32))
    other.save_weights(tmp_path / "other.weights.h5")
    refused(tmp_path / "other.weights.h5", r"has the layers dense: expected Embedding")
    sequential(keras, words=20, units=(16, 32)).save_weights(tmp_path / "uneven.weights.h5")
    refused(tmp_path / "uneven.weights.h5", "do not fit together")


def test_the_preset_of_the_page_is_that_model(tmp_path: Path) -> None:
    """Trained, judged and asked by the verbs."""
    page = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
    (text,) = [block for block in page.split("```yaml\n")[1:] if "kind: lstm" in block]
    config = parse_yaml(text.partition("```")[0], "a page")
    rows = {"review": [f"the {w} room {i}" for i in range(60) for w in ("good", "bad")], "label": ["yes", "no"] * 60}
    model = onetrunk.finetune(rows, ask=["label"], out=str(tmp_path / "m"), config=config, quiet=True,
                              settings=["finetune.steps=120", "train.tensorboard=false", "train.lr=0.02"])  # fmt: skip
    trunk, label = model.network.trunk, worlds.Sides.of(model, "label")
    assert [(cell.input_size, cell.hidden_size) for cell in trunk.layers] == [(32, 32)] * 2
    assert model.module("review").table.shape[1] == 16 and label.head.shape == (2, 32)
    (task,) = onetrunk.evaluate(str(tmp_path / "m"), {"review": ["the good bed"], "label": ["yes"]}, quiet=True).tasks
    assert task.metric == "accuracy"
    out = onetrunk.predict(str(tmp_path / "m"), {"review": ["the good room 70", "the bad room 71", None]}, quiet=True,
                           out=str(tmp_path / "answers.csv"), max_bad=0.5)  # fmt: skip
    assert out["label"].tolist()[:2] == ["yes", "no"] and "label drawn" not in out


def test_a_class_is_read_from_the_last_position_of_its_column() -> None:
    rows = {"note": ["ab", "abc", "b", None], "kind": ["x", "y", "x", "y"]}
    made = worlds.model(rows, {"note": "text", "kind": "category"},
                        options={"note": {"unit": "character"}, "kind": {"on": "note"}})  # fmt: skip
    batch = worlds.batch(worlds.store_of(made, rows), range(4), ["note"], ["kind"])
    read = batch.reads["predict"]["kind"]
    h = made.network.encode(batch).h_ND
    states = worlds.states_by_document(made, batch)
    assert len(read.flat_r) == 3, "there is nothing to read from where the note is missing"
    for place, doc in zip(read.flat_r.tolist(), read.doc_r.tolist(), strict=True):
        np.testing.assert_allclose(h[place].detach(), states[doc, "note"][-1], atol=1e-6)
    answers = made.answer(rows, "kind", ["note"])
    logits = made.module("kind").logits(h[read.flat_r]).softmax(-1)
    for doc, p in zip(read.doc_r.tolist(), logits.tolist(), strict=True):
        assert list(answers[doc].probability.values()) == pytest.approx(p, abs=1e-5)
