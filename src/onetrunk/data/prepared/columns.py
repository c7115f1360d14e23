"""Encoded columns of a prepared table: workers encode shards, the parent puts one behind the other.

Each array of a column is one file, so that it is memory-mapped as a whole; `column.json` says where each shard's rows
end in it, and holds their digest. What a kill leaves behind that end is overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onetrunk import __version__
from onetrunk.core.content import Content
from onetrunk.core.errors import ModelFileError
from onetrunk.data.prepared.crew import cores
from onetrunk.data.prepared.mapping import FileArray
from onetrunk.data.prepared.parts import Shard, sha256_of
from onetrunk.storage.arrays import map_arrays, save_arrays
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.strict_json import read_json, write_json_whole

if TYPE_CHECKING:
    from onetrunk.core.encoder import Encoder

COLUMN = "column.json"
_FORMAT = 2  # of the arrays that encoders make
_INDEX, _LENS, _STARTS, _PRESENT = "index", "lens", "starts", "present"
_OF_CONTENT = "content."  # before the names of arrays that the encoder has made


def column_key(name: str, encoder: Encoder) -> str:
    """A folder's name: the column, and all that its encoding depends on beside its values."""
    known = [
        __version__,
        _FORMAT,
        name,
        encoder.type_name,
        encoder.options.model_dump(mode="json"),
        encoder.knowledge(),
    ]
    return hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=12).hexdigest()


def save_shard(path: Path, content: Content, present: np.ndarray) -> None:
    """What a worker has encoded, whole or not at all."""
    arrays = {_OF_CONTENT + name: array for name, array in content.gather().items()}
    if content.ragged:
        arrays[_LENS] = content.lens
    staging = path.with_suffix(".tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(staging, {**arrays, _PRESENT: present})
        staging.replace(path)


class ColumnFiles:
    """A column's folder, to which shards are appended in their order."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            self.made = read_json(folder / COLUMN)
        except ModelFileError:  # none, or its writer was killed
            self.made = {"name": name, "arrays": {}, "ragged": False, "shards": []}

    @property
    def shards(self) -> list[dict[str, Any]]:
        """Of each that is in: how many rows, values and parts of values there are up to its end, its digest, and what
        the ledger counts."""
        return self.made["shards"]

    def keep_whole(self, shards: Sequence[Shard]) -> None:
        """Forgets the shards from the first on that is not of these values, or not what was written."""
        of = [shard.sha256 for shard in shards]
        whole = [made["of"] in of[k : k + 1] and ok for k, (made, ok) in enumerate(
            zip(self.shards, _whole(self.folder, self.made), strict=True))]  # fmt: skip
        del self.shards[whole.index(False) if False in whole else len(whole) :]

    def append(self, path: Path, shard: Shard, ledger: list[dict[str, Any]], dropped: dict[str, int]) -> None:
        """What a worker has saved of a shard, and what it counted; the worker's file is removed."""
        arrays = map_arrays(path)
        there = np.array(arrays.pop(_PRESENT))
        ends = self.shards[-1] if self.shards else {"rows": 0, "values": 0, "parts": 0}
        new = {_INDEX: np.where(there, ends["values"] + np.cumsum(there) - 1, -1)}
        lens = np.array(arrays.pop(_LENS)) if _LENS in arrays else None
        if there.any():
            new |= arrays
            if lens is not None:
                new |= {_LENS: lens, _STARTS: ends["parts"] + np.cumsum(lens) - lens}
            self.made["ragged"] = lens is not None
        self._begin(new)
        digest = hashlib.sha256()
        with disk_errors(self.folder):
            for name in sorted(new):
                self._write(name, new[name], ends[self._counted_by(name)], digest)
            values = ends["values"] + int(there.sum())
            parts = ends["parts"] + (0 if lens is None else int(lens.sum()))
            self.shards.append({
                "of": shard.sha256, "rows": ends["rows"] + len(there), "values": values, "parts": parts,
                "sha256": digest.hexdigest(), "ledger": ledger, "dropped": dropped,
            })  # fmt: skip
            write_json_whole(self.folder / COLUMN, self.made)
            path.unlink()

    def _begin(self, new: dict[str, np.ndarray]) -> None:
        """A shard without values says nothing of what arrays there will be."""
        for name, array in new.items():
            own = [array.dtype.str, list(array.shape[1:])]
            if self.made["arrays"].setdefault(name, own) != own:
                raise TypeError(f"A column's shards differ in {name}: {self.made['arrays'][name]} and {own}.")

    def _counted_by(self, name: str) -> str:
        return _counted_by(name, self.made["ragged"])

    def _write(self, name: str, array: np.ndarray, first: int, digest: Any) -> None:
        path = self.folder / f"{name}.bin"
        data = np.ascontiguousarray(array)
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(first * _item_bytes(self.made, name))
            file.write(data.data)
            file.truncate()
        digest.update(data.data)


def _counted_by(name: str, ragged: bool) -> str:
    """What a shard has one of for each item of this array."""
    if name in (_LENS, _STARTS):
        return "values"
    return "rows" if name == _INDEX else "parts" if ragged else "values"


def _item_bytes(made: dict[str, Any], name: str) -> int:
    dtype, shape = made["arrays"][name]
    return int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))


def open_column(place: Path, shards: Sequence[Shard]) -> tuple[Content, np.ndarray] | None:
    """The content and index of a column (its folder is named by `column_key`) of these shards of values; None where
    there is none, or where it is not whole, or not what was written."""
    try:
        made = read_json(place / COLUMN)
    except ModelFileError:
        return None
    if [shard["of"] for shard in made["shards"]] != [shard.sha256 for shard in shards]:
        return None
    if not shards or set(made["arrays"]) <= {_INDEX} or not all(_whole(place, made)):
        return None
    end = made["shards"][-1]
    arrays = {each: _mapped(place, made, each, end[_counted_by(each, made["ragged"])]) for each in made["arrays"]}
    data = {each.removeprefix(_OF_CONTENT): array for each, array in arrays.items() if each.startswith(_OF_CONTENT)}
    if not made["ragged"]:
        return Content(data), arrays[_INDEX]
    return Content(data, arrays[_LENS], arrays[_STARTS]), arrays[_INDEX]


def _mapped(place: Path, made: dict[str, Any], name: str, items: int) -> np.ndarray:
    dtype, shape = made["arrays"][name]
    return FileArray.map(place / f"{name}.bin", np.dtype(dtype), (items, *shape))


def _whole(place: Path, made: dict[str, Any]) -> list[bool]:
    """Of each shard: are its bytes what was written?"""
    shards = made["shards"]
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(lambda k: _digest(place, made, k) == shards[k]["sha256"], range(len(shards))))


def _digest(place: Path, made: dict[str, Any], k: int) -> str | None:
    before = made["shards"][k - 1] if k else {"rows": 0, "values": 0, "parts": 0}
    digest = hashlib.sha256()
    for name in sorted(made["arrays"]):
        by, size = _counted_by(name, made["ragged"]), _item_bytes(made, name)
        first, length = before[by] * size, (made["shards"][k][by] - before[by]) * size
        path = place / f"{name}.bin"
        if length and (not path.is_file() or path.stat().st_size < first + length):
            return None
        sha256_of(path, first, length, digest)
    return digest.hexdigest()
