"""A model that draws from a caption: learnt, asked, its pictures written and judged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import onetrunk
from onetrunk.core.errors import UsageError

CAPTIONS = {"a bar that stands": 0, "a bar that lies": 1}  # and the axis along which it does not change
QUIET = {"quiet": True, "allow_equal_rows": True}
SETTINGS = ["finetune.steps=300", "finetune.documents=32", "train.tensorboard=false", "columns.image.size=8"]


def bars(n: int) -> dict[str, list[Any]]:
    """Black 8 × 8 pictures with a white bar at any of eight places, standing or lying."""
    rows: dict[str, list[Any]] = {"caption": [], "image": []}
    for i in range(n):
        picture = np.zeros((8, 8), dtype=np.uint8)
        picture[i // 2 % 8] = 255
        rows["caption"].append(list(CAPTIONS)[i % 2])
        rows["image"].append(picture.T if i % 2 == 0 else picture)
    return rows


@pytest.fixture(scope="module")
def artist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawing") / "artist"
    types = {"caption": "text"}
    onetrunk.finetune(bars(320), ask=["image"], out=str(out), types=types, size="nano", settings=SETTINGS, **QUIET)
    return out


def test_it_draws_what_the_caption_says(artist: Path, tmp_path: Path) -> None:
    asked = pd.DataFrame({"caption": list(CAPTIONS)})
    table = onetrunk.generate(
        str(artist), ask=["image"], data=asked, n=20, out=str(tmp_path / "bars.csv"), steps=12, quiet=True
    )
    drawn = np.stack(table["image"]).astype(float).reshape(2, 20, 8, 8)
    for axis, pictures in zip(CAPTIONS.values(), drawn, strict=True):
        along, across = (pictures.mean(1 + a).std(1) for a in (axis, 1 - axis))
        assert (along > across).mean() >= 0.9
        assert len(set(pictures.mean(1 + axis).argmax(1).tolist())) > 2, "not one bar over and over"


def test_pictures_are_written_one_by_one_and_on_one_sheet(artist: Path, tmp_path: Path) -> None:
    out = tmp_path / "some" / "bars.csv"
    table = onetrunk.generate(str(artist), ask=["image"], n=12, out=str(out), steps=2, quiet=True)
    paths = pd.read_csv(out)["image"]
    for path, array in zip(paths, table["image"], strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), array)
        label = json.loads(re.search(r"<TC260:AIGC>(.*)</TC260", Image.open(path).info["XML:com.adobe.xmp"])[1])
        assert label["Label"] == "1" and label["ContentProducer"] == "onetrunk/artist"
    beside = json.loads((out.parent / "bars.csv-metadata.json").read_text())
    assert beside["url"] == "bars.csv" and list(beside["AIGC"]) == list(label)
    assert onetrunk.read(out.parent).names == ["image"], "what is said of a table is no table"
    with Image.open(out.with_suffix("") / "image.png") as sheet:
        assert "<TC260:AIGC>" in sheet.info["XML:com.adobe.xmp"]
        assert sheet.size == (10 * 9 + 1, 2 * 9 + 1)
        assert np.array_equal(np.asarray(sheet)[1:9, 1:9], table["image"][0])


def test_a_label_is_seen_where_that_is_wanted(artist: Path, tmp_path: Path) -> None:
    out = tmp_path / "bars.jsonl"
    onetrunk.generate(
        str(artist), ask=["image"], n=1, out=str(out), producer="maker", visible_label=True, steps=2, quiet=True
    )
    (path,) = pd.read_json(out, lines=True)["image"]
    picture = Image.open(path)
    assert picture.height == 8 + 15 and '"ContentProducer":"maker"' in picture.info["XML:com.adobe.xmp"]
    with pytest.raises(UsageError, match="name one with --out"):
        onetrunk.generate(str(artist), ask=["image"], n=1, visible_label=True, quiet=True)
    with pytest.raises(UsageError, match="--producer expects"):
        onetrunk.generate("no model", ask=["image"], n=1, producer="two words", quiet=True)


def test_it_is_judged_by_its_pictures_and_how_new_they_are(artist: Path, tmp_path: Path) -> None:
    evidence = onetrunk.evaluate(str(artist), bars(40), against=bars(16), **QUIET)
    (task,) = evidence.tasks
    assert task.metric == "energy_score" and task.metrics["nearest_known_of_true"] == 0, "all bars are known"
    assert task.metrics["nearest_known"] < 0.35
    assert {f"answers-{task.label}", f"answers-{task.label}-dark"} <= evidence.figures.keys()
