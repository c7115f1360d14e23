"""Folders of pictures with boxes: COCO's JSON and VOC's XML give one table; odd and hostile files a plain message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from onetrunk.core.errors import DataError
from onetrunk.data.table import infer_types, read
from onetrunk.media.image import open_image

CAT, DOG = {"label": "cat", "box": [10.0, 20.0, 30.0, 40.0]}, {"label": "dog", "box": [0.0, 0.0, 8.0, 9.0]}
SCENES = {"a": [CAT, DOG], "b": [DOG], "c": []}


def pictures(folder: Path, suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCENES:
        Image.fromarray(np.full((80, 100), 90, dtype=np.uint8)).save(folder / f"{name}{suffix}")


def coco(names: str = "abc", **other: Any) -> dict[str, Any]:
    kinds = {"cat": 7, "dog": 3}
    entries = [(i, entry) for i, name in enumerate(names) for entry in SCENES[name]]
    return {
        "info": {"description": "made up"},
        "images": [{"id": 50 + i, "file_name": f"{name}.jpg", "width": 100} for i, name in enumerate(names)],
        "annotations": [
            {"id": j, "image_id": 50 + i, "category_id": kinds[e["label"]], "bbox": e["box"], "iscrowd": 0}
            for j, (i, e) in enumerate(entries)
        ],
        "categories": [{"id": i, "name": name} for name, i in kinds.items()],
        **other,
    }  # fmt: skip


def voc(folder: Path, head: str = "") -> None:
    (folder / "Annotations").mkdir(parents=True)
    for name, entries in SCENES.items():
        objects = "".join(
            f"<object><name> {e['label']} </name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
            for e in entries
            for x, y, w, h in [e["box"]]
        )
        text = f"{head}<annotation><filename>{name}.jpg</filename>{objects}</annotation>"
        (folder / "Annotations" / f"{name}.xml").write_text(text)


def write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


# -- pictures that are turned, or of another size ----------------------------------------------------------------------
def photographs(folder: Path, orientations: list[int], stored: bool, scale: float = 1.0) -> Any:
    """Pictures, as stored 60 × 40, with a white rectangle in them; COCO's file says where, in the picture as it is
    stored or as it is seen, of which it counts `scale` pixels a pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    images, entries = [], []
    for i, orientation in enumerate(orientations):
        array = np.zeros((40, 60), dtype=np.uint8)
        array[5:17, 8:32] = 255
        picture, exif = Image.fromarray(array), Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        picture.save(folder / f"{i}.png", exif=exif)
        seen = np.asarray(picture if stored else open_image(folder / f"{i}.png"))
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        box = [float(v) * scale for v in (columns[0], rows[0], len(columns), len(rows))]
        size = {"width": seen.shape[1] * scale, "height": seen.shape[0] * scale}
        images.append({"id": i, "file_name": f"{i}.png", **size})
        entries.append({"id": i, "image_id": i, "category_id": 1, "bbox": box})
    write(folder / "coco.json", {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "x"}]})
    return read(folder)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.5, 4.0])
def test_boxes_lie_in_the_upright_picture_wherever_they_were_drawn(tmp_path: Path, stored: bool, scale: float) -> None:
    table = photographs(tmp_path, [6, 1, 2, 3, 4, 5, 7, 8], stored, scale)
    for path, (entry,) in zip(table["image"], table["boxes"], strict=True):
        seen, (x, y, w, h) = np.asarray(open_image(path)), map(round, entry["box"])
        assert seen[y : y + h, x : x + w].all() and (seen > 0).sum() == w * h, path.name
    notes = "\n".join(table.notes)
    assert ("boxes of 7 pictures were turned" in notes) == stored and ("8 pictures were scaled" in notes) == (
        scale != 1
    )
    assert "of 3 pictures with an EXIF orientation nothing tells" in notes  # turned by 180 degrees, or mirrored


def test_boxes_of_another_picture_are_refused(tmp_path: Path) -> None:
    photographs(tmp_path, [1], True)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["images"][0] |= {"width": 50, "height": 50}
    write(tmp_path / "coco.json", data)
    with pytest.raises(DataError, match=r"0.png has 50 × 50 pixels; it has 60 × 40.*another picture"):
        read(tmp_path)
    del data["images"][0]["width"]
    data["annotations"][0]["bbox"] = "nonsense"
    write(tmp_path / "coco.json", data)
    assert read(tmp_path)["boxes"][0][0]["box"] == "nonsense"  # the ledger tells of it


# -- what is read --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("place", ["coco.json", "annotations/instances.json"])
@pytest.mark.parametrize("beside", ["", "images", "deep/er"])
def test_one_file_of_coco(tmp_path: Path, place: str, beside: str) -> None:
    pictures(tmp_path / beside)
    write(tmp_path / place, coco())
    table = read(tmp_path)
    assert table.names == ["image", "boxes"] and table["boxes"] == list(SCENES.values())
    assert table["image"] == [tmp_path / beside / f"{name}.jpg" for name in SCENES]
    assert infer_types(table) == {"image": "image", "boxes": "boxes"}


def test_a_coco_file_by_its_name(tmp_path: Path) -> None:
    pictures(tmp_path)
    write(tmp_path / "any.json", coco())
    assert read(tmp_path / "any.json")["boxes"] == list(SCENES.values())
    write(tmp_path / "rows.json", [{"images": 1, "annotations": 2, "categories": 3}])
    assert read(tmp_path / "rows.json").names == ["images", "annotations", "categories"]


@pytest.mark.parametrize("names", [("train", "val"), ("instances_train2017", "instances_val2017")])
def test_official_parts_of_coco(tmp_path: Path, names: tuple[str, str]) -> None:
    pictures(tmp_path / "train2017")
    for name, visible in zip(names, ("ab", "c"), strict=True):
        write(tmp_path / "annotations" / f"{name}.json", coco(visible))
    table = read(tmp_path)
    assert table["split"] == ["train", "train", "val"] and table["boxes"] == list(SCENES.values())


def test_parts_in_folders_of_their_own(tmp_path: Path) -> None:
    for part, names in (("train", "ab"), ("valid", "c")):
        pictures(tmp_path / part)
        write(tmp_path / part / "_annotations.coco.json", coco(names))
    table = read(tmp_path)
    assert table["split"] == ["train", "train", "val"]
    assert [p.parent.name for p in table["image"]] == ["train", "train", "valid"]


def test_voc_in_its_official_sets(tmp_path: Path) -> None:
    voc(tmp_path)
    pictures(tmp_path / "JPEGImages")
    assert read(tmp_path)["boxes"] == list(SCENES.values())
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("c\na  1\n")
    (sets / "test.txt").write_text("b\n")
    table = read(tmp_path)
    assert table["split"] == ["train", "train", "test"]
    assert table["boxes"] == [SCENES["c"], SCENES["a"], SCENES["b"]]
    assert table["image"][0] == tmp_path / "JPEGImages" / "c.jpg"
    (sets / "test.txt").unlink()
    assert "left 1 pictures that are in no set" in read(tmp_path).notes[0]


def test_a_picture_that_is_missing_is_its_rows_matter(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "b.jpg").unlink()
    write(tmp_path / "coco.json", coco())
    assert [p.is_file() for p in read(tmp_path)["image"]] == [True, False, True]


def test_what_is_left_is_noted_and_what_is_unknown_keeps_its_number(tmp_path: Path) -> None:
    pictures(tmp_path)
    data = coco()
    data["annotations"] += [
        {"id": 90, "image_id": 50, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"id": 91, "image_id": 99, "category_id": 7, "bbox": [0, 0, 9, 9]},
        {"id": 92, "image_id": 52, "category_id": 8, "bbox": [0, 0, 9, 9]},
    ]
    write(tmp_path / "coco.json", data)
    table = read(tmp_path)
    assert table["boxes"][2] == [{"label": "category 8", "box": [0, 0, 9, 9]}] and len(table["boxes"][0]) == 2
    assert table.notes == [
        "coco.json: left 1 boxes of crowds.",
        "coco.json: left 1 boxes of pictures that are not listed.",
    ]


# -- what is refused -----------------------------------------------------------------------------------------
def test_two_files_of_one_part_are_one_too_many(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / f"{name}.json", coco())
    with pytest.raises(DataError, match=r"several COCO files \(one.json, two.json\).*name one of them"):
        read(tmp_path)


@pytest.mark.parametrize(
    "other",
    [{"images": [{"id": 1}]}, {"annotations": [{"id": 1, "image_id": 50}]}, {"categories": {"cat": 1}}, {"images": 5}],
)
def test_half_a_coco_file_is_not_coco(tmp_path: Path, other: dict[str, Any]) -> None:
    pictures(tmp_path)
    write(tmp_path / "coco.json", coco(**other))
    with pytest.raises(DataError, match="is not COCO's JSON: expected images with id and file_name"):
        read(tmp_path)


def test_pictures_that_are_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "coco.json", coco())
    with pytest.raises(DataError, match=r"None of the pictures .* is there, for example 'a.jpg'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-5], "is not whole XML"),
        (lambda text: text.replace("<xmax>40.0</xmax>", ""), "expected xmin, ymin, xmax and ymax of every object"),
        (lambda text: text.replace("40.0", "wide"), "expected xmin, ymin, xmax and ymax of every object"),
        (lambda text: '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + text.replace("cat", "&a;"), "declares a document type"),
    ],
)
def test_damaged_and_hostile_xml(tmp_path: Path, change: Any, reason: str) -> None:
    voc(tmp_path)
    pictures(tmp_path / "JPEGImages")
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=reason):
        read(tmp_path)


def test_sets_that_name_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match=r"holds no \.xml file"):
        read(tmp_path)
    (tmp_path / "Annotations").rmdir()
    voc(tmp_path)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nz\n")
    with pytest.raises(DataError, match="names 'z', which has no file in Annotations"):
        read(tmp_path)
