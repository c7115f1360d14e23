"""Answers are written beside what they are answers to, and can be read back."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import worlds
from worlds import film

import onetrunk
from onetrunk.core.encoder import FileAnswers
from onetrunk.core.errors import DataError, ResourceError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.table import Table, read
from onetrunk.inference import tables
from onetrunk.inference.answer_file import AnswerFile
from onetrunk.inference.tables import check_out, write_answers
from onetrunk.media.audio import wav
from onetrunk.media.marking import TEXT_LABEL

DAY = datetime.date(2024, 3, 1)
ROWS = {
    "id": ["007", "b", "c"],
    "photo": [Path("a.png"), None, Path("c.png")],
    "arrived": [DAY, DAY, None],
    "tags": [["x", "y"], [], None],
    "mixed": [1, "two", 3.5],
    "label": ["good", None, "bad"],
    "pixels": [np.zeros((2, 2)), None, None],
    "score": [None, None, None],
}
ANSWERS = pd.DataFrame({"label": ["good", "good", "bad"], "label_probability": [0.9, 0.6, 0.7], "score": [1, 2, 3]})


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_answers_stand_beside_the_rows_own_columns_in_every_format(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    assert write_answers(ANSWERS, Table(ROWS), out) == ["pixels"]
    back = read(out)
    own = ["id", "photo", "arrived", "tags", "mixed", "label_true"]
    assert back.names == [*own, "label", "label_probability", "score"], "a truth nobody knows is not written"
    assert back["id"] == ROWS["id"] and back["label_true"] == ROWS["label"]
    assert back["label"] == ["good", "good", "bad"] and back["label_probability"] == [0.9, 0.6, 0.7]
    assert [str(v) for v in back["mixed"]] == ["1", "two", "3.5"]
    assert [str(v) for v in back["arrived"]] == ["2024-03-01", "2024-03-01", "None"]
    assert back["photo"] == ["a.png", None, "c.png"]
    assert back["tags"][0] in (["x", "y"], '["x", "y"]')


DRAWN = {
    "image": ([np.full((4, 4), 7, dtype=np.uint8), np.zeros((4, 4), dtype=np.uint8)], ".png"),
    "video": ([film(1, 3, 3), film(5, 2, 3)], ".png"),
    "audio": ([wav(np.sin(np.arange(800) / 5), 8000), wav(np.zeros(400), 8000)], ".wav"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_pictures_films_and_sounds_become_files_that_the_table_names(tmp_path: Path, kind: str) -> None:
    encoder = column_types.get(kind).encoder({})
    answers, suffix = DRAWN[kind]
    assert isinstance(encoder, FileAnswers)
    frame = pd.DataFrame({"it": pd.Series([*answers, None], dtype=object)})
    write_answers(frame, Table({"digit": [7, 0, 1]}), tmp_path / "d.csv", {"it": encoder})
    back = read(tmp_path / "d.csv")
    assert back["digit"] == [7, 0, 1] and back["it"][2] is None
    assert all(path.is_file() and path.suffix == suffix for path in back["it"][:2])
    for path, answer in zip(back["it"][:2], answers, strict=True):
        assert kind == "audio" or encoder.fingerprint(path) == encoder.fingerprint(answer)
    assert (tmp_path / "d" / "it.png").exists() == (kind == "image"), "pictures are also shown side by side"


def test_where_answers_cannot_be_written_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_out(tmp_path / "new" / "d.csv")
    (tmp_path / "d.csv").touch()
    check_out(tmp_path / "d.csv")
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.parquet file, found 'd.xlsx'"):
        onetrunk.predict("no model", {"x": [1]}, out=str(tmp_path / "d.xlsx"), quiet=True)
    with pytest.raises(UsageError, match=r"d\.csv is a file; name another place"):
        check_out(tmp_path / "d.csv" / "e.csv")
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(UsageError, match=r"f\.csv is a folder; name another place"):
        check_out(tmp_path / "f.csv")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ResourceError, match=r"Cannot write .*Name a place you may write to"):
        check_out(tmp_path / "d.csv")


def test_answers_keep_the_index_of_a_frame(tmp_path: Path) -> None:
    rows = pd.DataFrame({"x": [float(i % 9) for i in range(60)], "y": ["ab"[i % 2] for i in range(60)]})
    quick = ["finetune.steps=2", "train.tensorboard=false"]
    model = onetrunk.finetune(rows, ask=["y"], out=str(tmp_path / "m"), size="nano", settings=quick, quiet=True)
    some = rows.sample(7, random_state=0)
    joined = some.join(onetrunk.predict(model, some, quiet=True).add_suffix("_answer"))
    assert len(joined) == 7 and joined["y_answer"].notna().all()
    assert model.predict(some).index.equals(some.index)
    onetrunk.predict(
        model, some.rename(columns={"x": "far"}), map={"x": "far"}, out=str(tmp_path / "a.csv"), quiet=True
    )
    assert read(tmp_path / "a.csv").names[:3] == ["far", "y_true", "y"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_written_in_parts_is_the_file_written_at_once(tmp_path: Path, suffix: str) -> None:
    rows = {name: values * 40 for name, values in ROWS.items()}
    answers = {
        "label": ["good", "good", "bad"] * 40,
        "score": [None] * 60 + [1, 2.5] * 30,
        "odd": [1] * 100 + ["x"] * 20,
    }
    write_answers(
        pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in answers.items()}),
        Table(rows),
        tmp_path / f"whole{suffix}",
    )
    with AnswerFile(tmp_path / f"parts{suffix}", Table(rows)) as file:
        for first in range(0, 120, 25):
            file.append({name: values[first : first + 25] for name, values in answers.items()})
    whole, parts = read(tmp_path / f"whole{suffix}"), read(tmp_path / f"parts{suffix}")
    assert whole.columns == parts.columns and len(whole) == 120 and file.left_out == ["pixels"]


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("x\n1\n")
    (tmp_path / ".rows.csv.999999999.tmp").touch()  # of a run that was killed
    with pytest.raises(DataError, match="bad"), AnswerFile(out, Table({"x": [1]})) as file:
        file.append({"y": [2]})
        raise DataError("bad")
    assert out.read_text() == "x\n1\n" and [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_answers_in_blocks_are_the_answers_and_may_replace_their_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "x": [float(i % 9) for i in range(90)],
        "y": ["ab"[i % 2] for i in range(90)],
        "z": [i / 7 for i in range(90)],
    }
    quick = ["pretrain.steps=2", "train.tensorboard=false"]
    model = onetrunk.pretrain(rows, out=str(tmp_path / "m"), size="nano", settings=quick, quiet=True)
    options = {"ask": ["y", "z"], "given": ["x"], "temperature": 1.0, "seed": 3, "quiet": True}
    whole = onetrunk.predict(model, rows, **options)
    monkeypatch.setattr(tables, "ANSWERED_AT_ONCE", 32)
    out = tmp_path / "rows.csv"
    pd.DataFrame(rows).to_csv(out, index=False)
    answers = onetrunk.predict(model, str(out), out=str(out), **options)
    assert answers["y"].equals(whole["y"]) and np.allclose(answers["z"], whole["z"], rtol=1e-4, atol=1e-4)
    back = read(out)
    assert back["y"] == whole["y"].tolist() and back["y_true"] == rows["y"] and back["x"] == rows["x"]
    before = out.read_text()
    spoilt = {**rows, "z": ["?!"] * 90}
    with pytest.raises(DataError, match="cannot be used"):
        onetrunk.predict(model, spoilt, out=str(out), ask=["y"], given=["z"], quiet=True)
    assert out.read_text() == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_written_texts_say_who_made_them(tmp_path: Path, suffix: str) -> None:
    model = worlds.model({"title": worlds._SENTENCES}, {"title": "text"}, options={"title": {"length": 64}})
    out = tmp_path / f"titles{suffix}"
    options = {"prompt": "the", "n": 2, "max_length": 8, "seed": 3, "quiet": True}
    plain = onetrunk.generate(model, ask=["title"], **options)
    onetrunk.generate(model, ask=["title"], out=str(out), producer="maker", visible_label=True, **options)
    assert read(out)["title"] == [f"{TEXT_LABEL} {text}" for text in plain["title"]]
    beside = out.with_name(f"{out.name}-metadata.json")
    if suffix == ".parquet":
        label = json.loads(pq.read_schema(out).metadata[b"AIGC"])
    else:
        label = json.loads(beside.read_text())["AIGC"]
        assert label["ProduceID"] == hashlib.blake2b(out.read_bytes(), digest_size=16).hexdigest()
    assert (label["Label"], label["ContentProducer"], len(label)) == ("1", "maker", 7)
    write_answers(ANSWERS, Table(ROWS), out)
    assert not beside.exists(), "these answers are decisions"


def test_a_persons_own_metadata_stay(tmp_path: Path) -> None:
    beside = tmp_path / "a.csv-metadata.json"
    beside.write_text('{"@context": "http://www.w3.org/ns/csvw"}')
    write_answers(ANSWERS, Table(ROWS), tmp_path / "a.csv")
    assert beside.exists()
