"""Masked models fill in hidden words, as in transformers; whatever a model cannot do it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import worlds

import onetrunk
from onetrunk.core.errors import DataError, UsageError
from onetrunk.inference.model_folder import Task
from onetrunk.interop import huggingface

checkpoints = pytest.importorskip("bench.trials.checkpoints", reason="needs transformers")
ENCODERS = ["bert", "roberta", "xlm-roberta", "distilbert", "albert", "modernbert"]


@pytest.mark.parametrize("kind", ENCODERS)
def test_gaps_are_filled_as_in_transformers(tmp_path: Path, kind: str) -> None:
    reference, words = checkpoints.write(kind, tmp_path / "in")
    onetrunk.import_(str(tmp_path / "in"), out=str(tmp_path / "ours"), quiet=True)
    gap = words.mask_token
    texts = [f"The {gap} was clean", f"{gap} boat on {gap} sea.", f"never again: {gap}"]
    answers = onetrunk.predict(str(tmp_path / "ours"), {"text": texts}, ask=["text"], quiet=True)
    for text, value, p in zip(texts, answers["text"], answers["text_probability"], strict=True):
        ids = torch.tensor([words(text)["input_ids"]])
        with torch.no_grad():
            logits = reference(ids).logits[0]
        hidden = ids[0] == words.mask_token_id
        logits = logits[hidden]
        logits[:, words.all_special_ids] = -torch.inf  # which nobody reads
        best = logits.softmax(-1).max(-1)
        assert p == pytest.approx(float(best.values.prod()), rel=1e-3)
        chosen = [words.decode([i]).strip().removeprefix("##") for i in best.indices.tolist()]
        pieces = text.split(gap)
        assert value == "".join(part for pair in zip(pieces, [*chosen, ""], strict=True) for part in pair)


def test_what_is_given_beside_helps_to_fill(tmp_path: Path) -> None:
    """Our own masked model: a word that only another column tells."""
    n = 120
    rows = {"colour": ["red", "blue"] * (n // 2),
            "note": [f"the {c} boat {i % 7}" for i, c in enumerate(["red", "blue"] * (n // 2))]}  # fmt: skip
    model = onetrunk.pretrain(
        rows, out=str(tmp_path / "m"), types={"note": "text", "colour": "category"}, quiet=True, size="nano",
        allow_equal_rows=True, settings=["pretrain.steps=150", "train.lr=0.01", "train.tensorboard=false",
                                         "pretrain.objectives=[{kind: masked, documents: 64}]"],
    )  # fmt: skip
    gapped = {"note": ["the <|mask|> boat 1"] * 2, "colour": ["red", "blue"]}
    told = [answer.value for answer in model.answer(gapped, "note", ["colour"])]
    assert told == ["the red boat 1", "the blue boat 1"]


def test_what_a_model_cannot_do_is_said(tmp_path: Path) -> None:
    checkpoints.write("bert", tmp_path / "bert")
    model = huggingface.read(tmp_path / "bert")
    with pytest.raises(UsageError, match=r"'text' fills in what is hidden, and does not write: .*\[MASK\]"):
        model.predict({"text": ["the room"]}, ask="text")
    with pytest.raises(UsageError, match="does not write"):
        onetrunk.generate(model, ask=["text"], quiet=True)
    told = {"text": ["the [MASK] boat", "the [MASK] [SEP] boat", "[MASK] " * 40 + "x", "a room"]}
    frame = onetrunk.predict(model, told, ask=["text"], quiet=True, max_bad=1.0)
    assert frame["text"].notna().tolist() == [True, False, False, False]
    with pytest.raises(DataError, match="other control tokens than its gaps"):
        onetrunk.predict(model, told, ask=["text"], quiet=True)
    checkpoints.write("clip", tmp_path / "clip")
    with pytest.raises(UsageError, match=r"'text' came without a read-out: it neither writes nor fills in"):
        huggingface.read(tmp_path / "clip", "text").predict({"text": ["a cat"]}, ask="text")
    trained = huggingface.read(tmp_path / "bert")
    trained.tasks = [Task([], ["text"])]  # since then it learnt to write
    (answer,) = trained.answer({"text": [None]}, "text")
    assert isinstance(answer.value, str)


# -- vectors -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["bert", "gpt2", "vit"])
@pytest.mark.parametrize("pool", ["mean", "cls", "last"])
def test_vectors_are_those_of_transformers(tmp_path: Path, kind: str, pool: str) -> None:
    reference, words = checkpoints.write(kind, tmp_path / "in")
    onetrunk.import_(str(tmp_path / "in"), out=str(tmp_path / "ours"), quiet=True)
    column = "image" if kind == "vit" else "text"
    dice = np.random.default_rng(0)
    values: list[Any] = checkpoints.TEXTS
    if kind == "vit":
        values = [dice.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(3)]
    found = onetrunk.embed(str(tmp_path / "ours"), {column: [*values, None]}, column=column, pool=pool, quiet=True)
    assert found.vectors.shape == (len(values) + 1, 32) and np.isnan(found.vectors[-1]).all()
    for value, vector in zip(values, np.asarray(found), strict=False):
        told = words(value, return_tensors="pt")
        with torch.no_grad():
            out = reference(**told, output_hidden_states=True)
        h = out.last_hidden_state[0] if kind == "vit" else out.hidden_states[-1][0]
        expected = {"mean": h.mean(0), "cls": h[0], "last": h[-1]}[pool]
        np.testing.assert_allclose(vector, expected, atol=1e-4)


def test_vectors_of_rows_are_written(tmp_path: Path) -> None:
    rows = {"review": ["a room", None, "noise all night", None], "nights": [1.0, 2.0, None, None]}
    model = worlds.model(rows, {"review": "text", "nights": "number"})
    model.tasks = [Task(["review", "nights"], ["review"])]
    whole = onetrunk.embed(model, rows, out=str(tmp_path / "v.npy"), quiet=True)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), whole.vectors)
    assert np.isfinite(whole.vectors[:3]).all() and np.isnan(whole.vectors[3]).all() and whole.columns == list(rows)
    alone = onetrunk.embed(model, rows, column="nights", out=str(tmp_path / "v.parquet"), quiet=True)
    frame = pd.read_parquet(tmp_path / "v.parquet")
    assert frame.columns.tolist() == ["review", "nights", "embedding"] and frame["embedding"].isna().tolist() == [
        False, False, True, True,
    ]  # fmt: skip
    np.testing.assert_allclose(np.stack(frame["embedding"][:2]), alone.vectors[:2], rtol=1e-6)
    assert not np.allclose(alone.vectors[0], whole.vectors[0])
    for told, message in [
        ({"column": "night"}, "Unknown column 'night'. Did you mean 'nights'"),
        ({"pool": "max"}, "Unknown way to pool 'max'"),
        ({"out": str(tmp_path / "v.csv")}, r"--out expects a .npy or .parquet file, found 'v.csv'"),
    ]:
        with pytest.raises(UsageError, match=message):
            onetrunk.embed(model, rows, quiet=True, **told)


def test_vectors_of_many_rows_are_made_and_written_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"review": [f"room {i}" * (i % 4) or None for i in range(7)], "nights": [float(i) for i in range(7)]}
    model = worlds.model(rows, {"review": "text", "nights": "number"})
    whole = onetrunk.embed(model, rows, column="review", quiet=True).vectors
    for module in ("onetrunk.inference.embeddings", "onetrunk.training.embedding"):
        monkeypatch.setattr(f"{module}.ANSWERED_AT_ONCE", 3)
    parts = onetrunk.embed(model, rows, column="review", out=str(tmp_path / "v.parquet"), quiet=True).vectors
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
    frame = pd.read_parquet(tmp_path / "v.parquet")
    assert frame["nights"].tolist() == rows["nights"]
    assert frame["embedding"].isna().tolist() == np.isnan(whole).all(1).tolist() == [i % 4 == 0 for i in range(7)]
    np.testing.assert_array_equal(np.stack(frame["embedding"].dropna()), parts[~np.isnan(parts).all(1)])
