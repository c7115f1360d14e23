"""The parts of a prepared table: what each file held, as its reader gave it, in memory-mapped files of values.

A part's folder appears whole, by one rename, with `part.json`: the file that it was made of, its columns' recipes, and
of each file of values (a shard) the rows, the bytes and the digest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from onetrunk.core.errors import DataError
from onetrunk.data.prepared.recipes import Recipe, described, rebuilt
from onetrunk.data.readers.common import Columns
from onetrunk.data.spool import keeping, mapped_batches
from onetrunk.data.table import read
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.strict_json import read_json, write_json

PART = "part.json"
SHARD_BYTES = 64 << 20  # of values in one file, about
_HASHED_AT_ONCE = 16 << 20  # bytes


@dataclass(frozen=True)
class Reading:
    """How files are read (`table.read`)."""

    allow_network: bool = False
    missing: tuple[str, ...] | None = None
    separator: str | None = None


@dataclass(frozen=True)
class Shard:
    """One file of a part's values. `batches` are the numbers of its record batches within the spool."""

    part: int
    name: str
    spool: int
    rows: int
    bytes: int
    sha256: str
    batches: range

    def __str__(self) -> str:
        return f"values/{self.part:05}/{self.name}"


@dataclass
class Part:
    """One file's values. `fingerprint` says what file, and how it was read."""

    number: int
    folder: Path
    source: str
    fingerprint: list[Any]
    rows: int
    shards: list[Shard]
    recipes: dict[str, Recipe]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> Part:
        """ModelFileError where it is not there, or not whole."""
        made = read_json(folder / PART)
        number, shards, so_far = int(folder.name), [], dict[int, int]()
        for each in made["shards"]:
            first = so_far.get(each["spool"], 0)
            so_far[each["spool"]] = first + each.pop("batches")
            shards.append(Shard(number, **each, batches=range(first, so_far[each["spool"]])))
        return cls(
            number, folder, made["source"], made["fingerprint"], made["rows"], shards, made["columns"], made["notes"]
        )

    def columns(self, without: Sequence[Shard] = ()) -> Columns:
        """As the file's reader gave them, but for rows of shards that are left out."""
        batches: dict[int, list[tuple[int, pa.RecordBatch]]] = {shard.spool: [] for shard in self.shards}
        for shard in self.shards:
            if shard not in without:
                whole = mapped_batches(self.folder / shard.name)
                batches[shard.spool] += zip(shard.batches, whole, strict=True)
        return {name: rebuilt(recipe, batches) for name, recipe in self.recipes.items()}


def fingerprint_of(source: Any, reading: Reading) -> list[Any]:
    """Equal for files that have not changed, read in the same way. Of files elsewhere it knows the address alone."""
    missing = None if reading.missing is None else list(reading.missing)
    if not isinstance(source, str | os.PathLike):
        return ["memory", missing, reading.separator]
    path, digest = Path(source), hashlib.blake2b(digest_size=8)
    for each in sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []:
        stat = each.stat()
        digest.update(f"{each} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "backslashreplace"))
    return [str(source), digest.hexdigest(), missing, reading.separator]


def keep_part(source: Any, folder: Path, reading: Reading, shard_bytes: int = SHARD_BYTES) -> str | None:
    """Reads one file (or whatever `table.read` takes) into the folder. None; or, where it cannot be read, why."""
    staging = folder.with_name(f"{folder.name}.tmp")
    with disk_errors(folder):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    with keeping(staging, shard_bytes) as kept:
        try:
            table = read(
                source, allow_network=reading.allow_network, missing=reading.missing, separator=reading.separator
            )
            recipes = described(table.columns)
        except DataError as error:
            shutil.rmtree(staging)
            return str(error)
    used = _spools(recipes)
    shards: list[dict[str, Any]] = []
    for number, paths in enumerate(kept.spools):
        for path in paths:
            if number not in used:
                path.unlink()
                continue
            batches = mapped_batches(path)
            shards.append({
                "name": path.name, "spool": number, "rows": sum(batch.num_rows for batch in batches),
                "batches": len(batches), "bytes": path.stat().st_size, "sha256": sha256_of(path),
            })  # fmt: skip
    made = {
        "source": table.source, "fingerprint": fingerprint_of(source, reading), "rows": len(table), "shards": shards,
        "columns": recipes, "notes": table.notes,
    }  # fmt: skip
    with disk_errors(folder):
        write_json(staging / PART, made)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    return None


def _spools(recipe: Any) -> set[int]:
    """The spools of which columns are made."""
    if isinstance(recipe, dict):
        own = {recipe[key] for key in ("spool", "missing") if isinstance(recipe.get(key), int)}
        return own.union(*map(_spools, recipe.values()))
    return set().union(*map(_spools, recipe)) if isinstance(recipe, list) else set()


def sha256_of(path: Path, first: int = 0, length: int | None = None, digest: Any = None) -> str:
    """Of a file, or of some of its bytes; or added to a `digest`."""
    made = hashlib.sha256() if digest is None else digest
    if length == 0:
        return made.hexdigest()
    with path.open("rb") as file:
        file.seek(first)
        left = length if length is not None else path.stat().st_size - first
        while left > 0 and (block := file.read(min(left, _HASHED_AT_ONCE))):
            made.update(block)
            left -= len(block)
    return made.hexdigest()
