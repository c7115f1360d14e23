"""Every verb takes a prepared table in place of the files, with the same result, and encodes nothing again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import onetrunk
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.training.stage import weights_digest

SETTINGS = ["train.tensorboard=false", "train.compile=false", "pretrain.steps=3", "finetune.steps=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, dice = tmp_path_factory.mktemp("verbs"), np.random.default_rng(0)
    n, words = 120, ["sea", "sand", "wind", "salt", "stone", "wave"]
    frame = pd.DataFrame({
        "note": [" ".join(dice.choice(words, 5)) + f" {i}" for i in range(n)], "size": dice.normal(size=n),
        "label": dice.choice(["a", "b"], n),
    })  # fmt: skip
    frame[:60].to_csv(folder / "rows-0.csv", index=False)
    frame[60:].to_csv(folder / "rows-1.csv", index=False)
    onetrunk.prepare(str(folder / "rows-*.csv"), ask="label", out=str(folder / "store"), workers=1, quiet=True)
    return folder


def pretrained(data: Path | str, out: Path, **told: Any) -> Model:
    return onetrunk.pretrain(str(data), ask="label", out=str(out), size="nano", settings=SETTINGS, quiet=True, **told)


def test_a_model_of_it_is_the_model_of_its_files(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_files = pretrained(place / "rows-*.csv", tmp_path / "files")
    monkeypatch.setattr("onetrunk.data.prepare.encode_values", None)  # all of it is there
    monkeypatch.setattr("onetrunk.training.open_data._decide", None)
    of_store = pretrained(place / "store", tmp_path / "store")
    assert weights_digest(of_files.network) == weights_digest(of_store.network)
    rows = [(tmp_path / name / "seen_rows.safetensors").read_bytes() for name in ("files", "store")]
    assert rows[0] == rows[1]


def test_the_other_verbs_take_it_too(place: Path, tmp_path: Path) -> None:
    store = str(place / "store")
    pretrained(store, tmp_path / "base")
    onetrunk.finetune(
        store, ask="label", start=str(tmp_path / "base"), out=str(tmp_path / "model"), settings=SETTINGS, quiet=True
    )
    answers = onetrunk.predict(str(tmp_path / "model"), store, quiet=True)
    assert answers.equals(onetrunk.predict(str(tmp_path / "model"), str(place / "rows-*.csv"), quiet=True))
    evidence = onetrunk.evaluate(str(tmp_path / "model"), store, allow_equal_rows=True, quiet=True)
    assert evidence.tasks[0].rows == 120
    seen, plain = (onetrunk.inspect(data, ask="label", quiet=True) for data in (store, str(place / "rows-*.csv")))
    assert [vars(column) for column in seen.columns] == [vars(column) for column in plain.columns]


def test_the_vocabulary_of_a_model_can_be_taken(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained(place / "rows-0.csv", tmp_path / "base")
    made = onetrunk.prepare(
        str(place / "rows-1.csv"), start=str(tmp_path / "base"), out=str(tmp_path / "store"), workers=1, quiet=True
    )
    assert set(made.columns) == {"note", "size", "label"}
    monkeypatch.setattr("onetrunk.data.prepare.encode_values", None)
    onetrunk.pretrain(
        str(tmp_path / "store"), start=str(tmp_path / "base"), out=str(tmp_path / "next"), settings=SETTINGS, quiet=True
    )


def test_tables_are_mixed_by_weights_from_files_and_from_what_was_prepared_of_them(place: Path, tmp_path: Path) -> None:
    sources = []
    for i, name in enumerate(("web", "books")):
        sources.append(str(tmp_path / f"{name}-0.csv"))
        (tmp_path / f"{name}-0.csv").write_text((place / f"rows-{i}.csv").read_text())
    onetrunk.prepare(",".join(sources), ask="label", out=str(tmp_path / "store"), workers=1, quiet=True)
    weights = {}
    for name, data in (("files", ",".join(sources)), ("store", str(tmp_path / "store"))):
        mixed = pretrained(data, tmp_path / f"of-{name}", mixture={"web": "9", "books": "1"})
        weights[name] = weights_digest(mixed.network)
    plain = weights_digest(pretrained(tmp_path / "store", tmp_path / "plain").network)
    assert weights["files"] == weights["store"] != plain
    with pytest.raises(UsageError, match="says nothing of the table 'books'"):
        pretrained(tmp_path / "store", tmp_path / "wrong", mixture={"web": "9"})


def test_what_prepare_does_not_do_is_refused(place: Path, tmp_path: Path) -> None:
    for told, message in (
        ({"workers": 0}, "--workers expects 1 or more"),
        ({"settings": ["events.by=x", "events.window=3"]}, "--events"),
    ):
        with pytest.raises(UsageError, match=message):
            onetrunk.prepare(str(place / "rows-0.csv"), out=str(tmp_path / "store"), quiet=True, **told)
