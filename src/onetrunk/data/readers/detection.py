"""Pictures with boxes as the field keeps them: COCO's JSON, and the XML files of Pascal VOC.

Both become a table, a picture a row, with a column `boxes`: lists of `{"label", "box": [x, y, width, height]}` in
pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from onetrunk.core.errors import DataError
from onetrunk.data.readers.common import Columns, Notes, media
from onetrunk.data.readers.json_lines import parse_json
from onetrunk.data.readers.text import read_text
from onetrunk.data.readers.upright import upright_boxes


def splits_of(folder: Path, words: Mapping[str, str], notes: Notes) -> dict[str, Columns] | None:
    """Named splits ("" where there are none) of a folder of VOC or COCO; None where it is neither.

    `words` says which split a word in a file's name stands for. Where both are kept beside each other, VOC is read.
    """
    if (folder / "Annotations").is_dir():
        return _voc(folder, notes)
    paths = [p for parent in (folder, folder / "annotations") if parent.is_dir() for p in sorted(parent.glob("*.json"))]
    paths = [p for p in paths if is_coco(p)]
    if not paths:
        return None
    named = {p: next((words[w] for w in re.findall("[a-z]+", p.stem.lower()) if w in words), "") for p in paths}
    if len(set(named.values())) < len(paths):
        names = ", ".join(p.name for p in paths)
        raise DataError(
            f"{folder} holds several COCO files ({names}) that do not name different splits: name one of them."
        )
    return {split: from_coco(path, folder, notes) for path, split in named.items()}


# -- COCO --------------------------------------------------------------------------------------------------------------
def is_coco(path: Path) -> bool:
    """Is it an object with `images` and `annotations`? Told by how the file begins and by these words in it."""
    with path.open("rb") as file:
        if not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return False
        file.seek(0)
        text = file.read()
    return all(f'"{key}"'.encode() in text for key in ("images", "annotations", "categories"))


def from_coco(path: Path, folder: Path, notes: Notes) -> Columns:
    """One file of annotations; its pictures are sought beside it and in `folder`."""
    data = parse_json(read_text(path, notes), str(path), dict)
    try:
        names = {c["id"]: str(c["name"]) for c in data["categories"]}
        images = {image["id"]: str(image["file_name"]) for image in data["images"]}
        sizes = [_size(image.get("width"), image.get("height")) for image in data["images"]]
        boxes: dict[Any, list[dict[str, Any]]] = {key: [] for key in images}
        crowds = strays = 0
        for entry in data["annotations"]:
            if entry.get("iscrowd"):
                crowds += 1
            elif entry["image_id"] not in boxes:
                strays += 1
            else:
                label = names.get(entry["category_id"], f"category {entry['category_id']}")
                boxes[entry["image_id"]].append({"label": label, "box": entry["bbox"]})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not COCO's JSON: expected images with id and file_name, categories with id and name, "
            f"annotations with image_id, category_id and bbox; {type(error).__name__} {error}."
        ) from None
    for count, what in ((crowds, "of crowds"), (strays, "of pictures that are not listed")):
        if count:
            notes.append(f"{path.name}: left {count:,} boxes {what}.")
    find = _Pictures(folder, (path.parent, folder / path.stem, folder))
    pictures = find.all(list(images.values()), path)
    return {"image": pictures, "boxes": upright_boxes(pictures, list(boxes.values()), sizes, path.name, notes)}


def _size(width: Any, height: Any) -> tuple[float, float] | None:
    """Of an annotation's picture, where it names one."""
    try:
        return (float(width), float(height)) if float(width) > 0 and float(height) > 0 else None
    except (TypeError, ValueError):
        return None


class _Pictures:
    """Finds the file of a name: in the likeliest places first, else anywhere in the folder."""

    def __init__(self, folder: Path, folders: tuple[Path, ...]) -> None:
        self.folder, self.folders = folder, folders
        self._all: dict[str, Path] | None = None

    def all(self, names: list[str], source: Path) -> list[Path]:
        """The files of all names. DataError where none is there."""
        paths = [self(name) for name in names]
        if paths and not any(p.is_file() for p in paths):
            raise DataError(
                f"None of the pictures that {source} names is there, for example {names[0]!r}: put them beside it, "
                f"or in {self.folder}."
            )
        return paths

    def __call__(self, name: str) -> Path:
        """The file, or where it should have been: then reading it says that it is missing."""
        there = next((p / name for p in self.folders if (p / name).is_file()), None)
        if there is not None:
            return there
        if self._all is None:
            self._all = {p.name: p for p in sorted(self.folder.rglob("*")) if media(p) == "image" and p.is_file()}
        return self._all.get(Path(name).name, self.folders[0] / name)


# -- Pascal VOC --------------------------------------------------------------------------------------------------------
def _voc(folder: Path, notes: Notes) -> dict[str, Columns]:
    """`Annotations/*.xml`, in the splits that `ImageSets/Main` names where it does."""
    files = {p.stem: p for p in sorted((folder / "Annotations").glob("*.xml"))}
    if not files:
        raise DataError(f"{folder / 'Annotations'} holds no .xml file: expected one for each picture.")
    sets = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in ("train", "val", "test")}
    sets = {split: path for split, path in sets.items() if path.is_file()}
    find = _Pictures(folder, (folder / "JPEGImages", folder))
    if not sets:
        return {"": _voc_table(files.values(), find, notes)}
    chosen = {
        split: [line.split()[0] for line in read_text(path, notes).splitlines() if line.strip()]
        for split, path in sets.items()
    }
    absent = [name for names in chosen.values() for name in names if name not in files]
    if absent:
        raise DataError(f"{folder / 'ImageSets' / 'Main'} names {absent[0]!r}, which has no file in Annotations.")
    rest = len(files.keys() - {name for names in chosen.values() for name in names})
    if rest:
        notes.append(f"{folder.name}: left {rest:,} pictures that are in no set.")
    return {split: _voc_table([files[name] for name in names], find, notes) for split, names in chosen.items()}


def _voc_table(paths: Iterable[Path], find: _Pictures, notes: Notes) -> Columns:
    roots = {path: _xml(path) for path in paths}
    names = [_text(root, "filename") or f"{path.stem}.jpg" for path, root in roots.items()]
    boxes = [list(_voc_boxes(root, path)) for path, root in roots.items()]
    sizes = [_size(_text(root, "size/width"), _text(root, "size/height")) for root in roots.values()]
    pictures = find.all(names, find.folder / "Annotations")
    return {"image": pictures, "boxes": upright_boxes(pictures, boxes, sizes, "Annotations", notes)}


def _voc_boxes(root: ElementTree.Element, path: Path) -> Iterator[dict[str, Any]]:
    for entry in root.iter("object"):
        ends = [_text(entry, f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
        try:
            left, top, right, bottom = (float(end or "") for end in ends)
        except ValueError:
            raise DataError(f"{path}: expected xmin, ymin, xmax and ymax of every object, found {ends}.") from None
        yield {"label": _text(entry, "name"), "box": [left, top, right - left, bottom - top]}


def _text(element: ElementTree.Element, path: str) -> str | None:
    text = element.findtext(path)
    return text.strip() if text else None


def _xml(path: Path) -> ElementTree.Element:
    """Entities of its own are refused: they can grow without bound when expanded."""
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DataError(f"{path} declares a document type, which annotations do not need: remove it.")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not whole XML: {error}.") from None
