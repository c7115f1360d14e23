"""Files and folders of files: which are read, and how they are one table.

Everything here returns columns of plain Python values with None where missing, and appends to `notes` what a
person should know.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from onetrunk.core.errors import DataError, UsageError, nearest
from onetrunk.core.values import Repeated
from onetrunk.data.readers import detection
from onetrunk.data.readers.arrow import arrow, parquet
from onetrunk.data.readers.common import (
    DEFAULT,
    TABLE_METADATA,
    Columns,
    Notes,
    ReadOptions,
    as_files,
    join,
    media,
    rows,
    suffix_of,
)
from onetrunk.data.readers.delimited import delimited
from onetrunk.data.readers.json_lines import json_file, json_lines
from onetrunk.data.readers.text import read_text
from onetrunk.data.readers.workbooks import DATABASES, WORKBOOKS, database, split_name, workbook

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}


def _whole_text(path: Path, notes: Notes) -> Columns:
    return {str(media(path)): [read_text(path, notes)]}


_CELLS = {".csv": delimited(","), ".tsv": delimited("\t")}
_OTHERS: dict[str, Callable[[Path, Notes], Columns]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_file,
    ".parquet": parquet,
    ".arrow": arrow,
    ".feather": arrow,
    ".txt": _whole_text,
    **dict.fromkeys(WORKBOOKS, workbook),
    **dict.fromkeys(DATABASES, database),
}
READERS = (*_CELLS, *_OTHERS)


def _read_file(path: Path, notes: Notes, options: ReadOptions) -> Columns:
    suffix = suffix_of(path)
    return _CELLS[suffix](path, notes, options) if suffix in _CELLS else _OTHERS[suffix](path, notes)


def from_path(path: Path, notes: Notes, options: ReadOptions = DEFAULT) -> Columns:
    """One file or folder. Raises UsageError when it is not there, DataError when it cannot be used."""
    try:
        path, inside = split_name(path)
        there = path.exists()
    except OSError as error:  # too long a name, or a folder that nobody may enter
        raise UsageError(f"Cannot look for {str(path)[:200]!r}: {error.strerror}.") from None
    if not there:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"There is no file or folder {path}.{nearest(path.name, names)}")
    if path.is_dir():
        return _folder(path, notes, options)
    if not path.is_file():
        raise DataError(f"{path} is a pipe or a device: expected a file. Write what comes from it to a file first.")
    suffix = suffix_of(path)
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise DataError(
            f"Cannot read {path}: expected one of {known} (those of text also .gz), a folder, or hf://name; "
            f"found {suffix or 'no suffix'!r}."
        )
    if suffix == ".json" and detection.is_coco(path):
        columns = detection.from_coco(path, path.parent, notes)
    elif inside is not None:
        columns = (workbook if suffix in WORKBOOKS else database)(path, notes, inside)
    else:
        columns = _read_file(path, notes, options)
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{path} has no rows: only {'a header' if columns else 'nothing'} was found.")
    return {name: as_files(values, path.parent) for name, values in columns.items()}


def from_splits(splits: dict[str, Columns]) -> Columns:
    """Named splits (train, validation, test) as one table with a column `split`."""
    joined = join(list(splits.values()))
    joined.pop("split", None)
    names = [Repeated(SPLIT_OF.get(name, name), rows(columns)) for name, columns in splits.items()]
    joined["split"] = [v for column in names for v in column]
    return joined


# -- folders ------------------------------------------------------------------------------------------
def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__")) and not _is_special(p))


def _is_special(path: Path) -> bool:
    """Is it a pipe, a socket or a device? Reading it could wait for ever."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _folder(folder: Path, notes: Notes, options: ReadOptions) -> Columns:
    """Metadata beside files; pictures with boxes; named splits; one table; or files in class folders."""
    inside = _visible(folder)
    metadata = next((p for p in inside if p.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet")), None)
    if metadata is not None:
        return _with_metadata(metadata, notes, options)
    annotated = detection.splits_of(folder, SPLIT_OF, notes)
    if annotated is not None:
        return from_splits(annotated) if len(annotated) > 1 else next(iter(annotated.values()))
    tables = [p for p in inside if p.is_file() and suffix_of(p) in READERS and not p.name.endswith(TABLE_METADATA)]
    split_of = {
        p: SPLIT_OF[m[1]]
        for p in tables
        if (m := re.match(r"([a-z]+)(?:[-_.]\d.*|\..*)$", p.name)) and m[1] in SPLIT_OF
    }
    suffixes = {suffix_of(p) for p in split_of}
    if len(suffixes) > 1:  # a text file of notes beside tables is not a table
        split_of = {p: split for p, split in split_of.items() if suffix_of(p) != ".txt"}
        suffixes -= {".txt"}
    if len(suffixes) > 1:
        raise DataError(f"{folder} holds its splits in several formats ({', '.join(sorted(suffixes))}): keep one.")
    if split_of:
        others = [p.name for p in tables if p not in split_of]
        if others:
            notes.append(f"{folder.name}: read {', '.join(p.name for p in split_of)}; left {', '.join(others)}.")
        read = [(split, from_path(p, notes, options)) for p, split in split_of.items()]
        order = [split for split in SPLITS if split in split_of.values()]
        return from_splits({split: join([columns for name, columns in read if name == split]) for split in order})
    folders = {SPLIT_OF[p.name.lower()]: p for p in inside if p.is_dir() and p.name.lower() in SPLIT_OF}
    if folders:
        return from_splits({split: _folder(folders[split], notes, options) for split in SPLITS if split in folders})
    tables = [p for p in tables if suffix_of(p) != ".txt"]
    if len(tables) == 1:
        return from_path(tables[0], notes, options)
    if tables:
        raise DataError(f"{folder} holds several tables ({', '.join(p.name for p in tables)}): name one of them.")
    return _files_by_class(folder, notes)


def _with_metadata(metadata: Path, notes: Notes, options: ReadOptions) -> Columns:
    columns = _read_file(metadata, notes, options)
    key = next((name for name in ("file_name", "file", "filename", "path") if name in columns), None)
    if key is None:
        raise DataError(f"{metadata} needs a column file_name with each row's file; found {', '.join(columns)}.")
    if not rows(columns):
        raise DataError(f"{metadata} has no rows: only a header was found.")
    files = [None if v is None else metadata.parent / str(v) for v in columns[key]]
    if not any(f is not None and f.is_file() for f in files):
        raise DataError(f"None of the files that {metadata} names exists beside it, for example {columns[key][0]!r}.")
    kinds = {media(f) for f in files if f is not None}
    name = kinds.pop() if len(kinds) == 1 else None
    name = name if name and name not in columns else key
    return {name if k == key else k: files if k == key else v for k, v in columns.items()}


def _files_by_class(folder: Path, notes: Notes) -> Columns:
    files: list[tuple[Path, str | None]] = [(p, None) for p in _visible(folder) if p.is_file()]
    for label in (p for p in _visible(folder) if p.is_dir()):
        files += [(p, label.name) for p in sorted(label.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    if any(label is not None for _, label in files):
        files = [(p, label) for p, label in files if label is not None]
    kinds = Counter(kind for p, _ in files if (kind := media(p)))
    if not kinds:
        raise DataError(f"{folder} holds neither a table, nor splits (train, val, test), nor files in class folders.")
    kind = kinds.most_common(1)[0][0]
    others = [p.name for p, _ in files if media(p) != kind]
    if others:
        notes.append(f"{folder.name}: left {len(others):,} files of another kind, for example {others[0]}.")
    files = [(p, label) for p, label in files if media(p) == kind]
    columns: Columns = {kind: [read_text(p, notes) if p.suffix == ".txt" else p for p, _ in files]}
    return columns if files[0][1] is None else {**columns, "label": [label for _, label in files]}
