"""Where tables come from: files, folders, DataFrames and Hugging Face objects.

Everything here returns columns of plain Python values with None where missing, and appends to `notes` what a
person should know. Nothing is fetched unless the caller allowed it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onetrunk.core.errors import DataError, MissingExtraError, UsageError, nearest
from onetrunk.data import detection
from onetrunk.data.files import (
    READERS,
    Columns,
    Notes,
    as_files,
    check_names,
    from_arrow,
    join,
    media,
    plain,
    read_text,
    rows,
    suffix_of,
)

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_OF = {word: part for part, words in SPLITS.items() for word in words}


def from_path(path: Path, notes: Notes) -> Columns:
    """One file or folder. Raises UsageError when it is not there, DataError when it cannot be used."""
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"There is no file or folder {path}.{nearest(path.name, names)}")
    if path.is_dir():
        return _folder(path, notes)
    suffix = suffix_of(path)
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise DataError(
            f"Cannot read {path}: expected one of {known} (those of text also .gz) or a folder; "
            f"found {suffix or 'no suffix'!r}."
        )
    is_coco = suffix == ".json" and detection.is_coco(path)
    columns = detection.from_coco(path, path.parent, notes) if is_coco else READERS[suffix](path, notes)
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{path} has no rows: only {'a header' if columns else 'nothing'} was found.")
    return {name: as_files(values, path.parent) for name, values in columns.items()}


def from_mapping(mapping: dict[str, Iterable[Any]]) -> Columns:
    """A dict of columns, all equally long."""
    columns = {str(name): [plain(v) for v in values] for name, values in mapping.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"All columns must have the same number of rows; found {lengths}.")
    return columns


def from_frame(frame: Any) -> Columns:
    """A pandas DataFrame; its index is not data."""
    names = [str(name) for name in frame.columns]
    check_names(names, "the DataFrame")
    return {name: [plain(v) for v in frame.iloc[:, i].tolist()] for i, name in enumerate(names)}


def is_dataset(source: Any) -> bool:
    """Is it a Hugging Face `Dataset`? Known by what it can do, so that the package need not be there."""
    return all(hasattr(source, name) for name in ("features", "column_names", "with_format", "num_rows"))


def from_dataset(dataset: Any) -> Columns:
    """A Hugging Face `Dataset`: class numbers become names; images stay as stored (bytes or a path)."""
    columns = from_arrow(dataset.with_format("arrow")[:], "the dataset")
    return {name: _decoded(values, dataset.features.get(name)) for name, values in columns.items()}


def _decoded(values: list[Any], feature: Any) -> list[Any]:
    inner = getattr(feature, "feature", None)
    if inner is not None and any(hasattr(inner, name) for name in ("int2str", "feature")):
        return [None if v is None else _decoded(v, inner) for v in values]
    if hasattr(feature, "int2str"):  # -1 is how a ClassLabel says that the label is withheld
        return [None if v is None or v < 0 else feature.int2str(v) for v in values]
    if hasattr(feature, "decode_example"):
        return [Path(v["path"]) if v and v["bytes"] is None and v["path"] else v for v in values]
    return values


def from_parts(parts: dict[str, Columns]) -> Columns:
    """Named parts (train, validation, test) as one table with a column `split`."""
    joined = join(list(parts.values()))
    joined.pop("split", None)
    joined["split"] = [SPLIT_OF.get(name, name) for name, columns in parts.items() for _ in range(rows(columns))]
    return joined


def from_hub(name: str, allow_network: bool) -> Columns:
    """`name[:config]` of the Hugging Face hub, out of the local cache unless the network is allowed."""
    try:
        import datasets
        import huggingface_hub
    except ImportError:
        raise MissingExtraError("datasets", "hub", f"Reading hf://{name}") from None
    repo, _, config = name.partition(":")
    switches = [(datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE")]
    before = [getattr(module, key) for module, key in switches]
    try:
        for module, key in switches if not allow_network else []:
            setattr(module, key, True)
        loaded = datasets.load_dataset(repo, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        hint = "" if allow_network else " Nothing was fetched: the network is used only with --allow-network."
        reason = str(error).partition("\n")[0]
        raise DataError(f"Cannot load the hub dataset {repo!r}: {reason}.{hint}") from None
    finally:
        for (module, key), value in zip(switches, before, strict=True):
            setattr(module, key, value)
    return from_parts({part: from_dataset(d) for part, d in loaded.items()})


# -- folders ------------------------------------------------------------------------------------------
def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__")))


def _folder(folder: Path, notes: Notes) -> Columns:
    """Metadata beside files; pictures with boxes; named parts; one table; or files in class folders."""
    inside = _visible(folder)
    metadata = next((p for p in inside if p.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet")), None)
    if metadata is not None:
        return _with_metadata(metadata, notes)
    found = detection.parts_of(folder, SPLIT_OF, notes)
    if found is not None:
        return from_parts(found) if len(found) > 1 else next(iter(found.values()))
    tables = [p for p in inside if p.is_file() and suffix_of(p) in READERS]
    parts = {
        p: SPLIT_OF[m[1]]
        for p in tables
        if (m := re.match(r"([a-z]+)(?:[-_.]\d.*|\..*)$", p.name)) and m[1] in SPLIT_OF
    }
    suffixes = {suffix_of(p) for p in parts}
    if len(suffixes) > 1:  # a text file of notes beside tables is not a table
        parts = {p: part for p, part in parts.items() if suffix_of(p) != ".txt"}
        suffixes -= {".txt"}
    if len(suffixes) > 1:
        raise DataError(f"{folder} holds its parts in several formats ({', '.join(sorted(suffixes))}): keep one.")
    if parts:
        others = [p.name for p in tables if p not in parts]
        if others:
            notes.append(f"{folder.name}: read {', '.join(p.name for p in parts)}; left {', '.join(others)}.")
        read = [(part, from_path(p, notes)) for p, part in parts.items()]
        order = [part for part in SPLITS if part in parts.values()]
        return from_parts({part: join([columns for name, columns in read if name == part]) for part in order})
    folders = {SPLIT_OF[p.name.lower()]: p for p in inside if p.is_dir() and p.name.lower() in SPLIT_OF}
    if folders:
        return from_parts({part: _folder(folders[part], notes) for part in SPLITS if part in folders})
    tables = [p for p in tables if suffix_of(p) != ".txt"]
    if len(tables) == 1:
        return from_path(tables[0], notes)
    if tables:
        raise DataError(f"{folder} holds several tables ({', '.join(p.name for p in tables)}): name one of them.")
    return _files_by_class(folder, notes)


def _with_metadata(metadata: Path, notes: Notes) -> Columns:
    columns = READERS[suffix_of(metadata)](metadata, notes)
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
    found: list[tuple[Path, str | None]] = [(p, None) for p in _visible(folder) if p.is_file()]
    for label in (p for p in _visible(folder) if p.is_dir()):
        found += [(p, label.name) for p in sorted(label.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    if any(label is not None for _, label in found):
        found = [(p, label) for p, label in found if label is not None]
    kinds = Counter(kind for p, _ in found if (kind := media(p)))
    if not kinds:
        raise DataError(f"{folder} holds neither a table, nor parts (train, val, test), nor files in class folders.")
    kind = kinds.most_common(1)[0][0]
    others = [p.name for p, _ in found if media(p) != kind]
    if others:
        notes.append(f"{folder.name}: left {len(others):,} files of another kind, for example {others[0]}.")
    found = [(p, label) for p, label in found if media(p) == kind]
    columns: Columns = {kind: [read_text(p, notes) if p.suffix == ".txt" else p for p, _ in found]}
    return columns if found[0][1] is None else {**columns, "label": [label for _, label in found]}
