"""Keeps fitted vocabularies and encoded values in a folder, so that the next run on the same values begins at once.

Files are named after a digest of all that they depend on: the values themselves, the column's type and options, what
its encoder knows, the version. Nothing needs to be told when the data change, and what is damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onetrunk import __version__
from onetrunk.core.content import Content
from onetrunk.core.errors import ModelFileError
from onetrunk.core.values import present
from onetrunk.data.store import Bad, Count, encode_values
from onetrunk.storage.arrays import map_arrays, save_arrays
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.locks import FileLock
from onetrunk.storage.strict_json import read_json, write_json

if TYPE_CHECKING:
    from onetrunk.core.encoder import Encoder

_LENS = "lens"
_LOCK, _STAGING = ".lock", ".tmp"  # who holds the lock writes


class ColumnCache:
    """A folder that only its owner may read: it holds the data, as tokens. Types that are read fast anyway are not
    kept (`Encoder.costly`)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        with disk_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()

    def fit(self, encoder: Encoder, kind: str, values: Sequence[Any]) -> None:
        """As `encoder.fit`, for present values of a column of the type `kind`."""
        if not encoder.costly:
            return encoder.fit(values)
        path = self._path("fitted", kind, encoder, values).with_suffix(".json")
        try:
            encoder.set_knowledge(read_json(path)["knowledge"])
        except (ModelFileError, KeyError):  # not kept, or damaged
            encoder.fit(values)
            self._keep(path, lambda to: write_json(to, {"knowledge": encoder.knowledge()}))

    def encode(
        self, encoder: Encoder, kind: str, values: Sequence[Any], bad: Bad, count: Count = None
    ) -> tuple[Content, np.ndarray]:
        """As `encode_values`. Values of which some are bad are not kept: each run is told of them."""
        if not encoder.costly:
            return encode_values(encoder, values, bad, count)
        path = self._path("encoded", kind, encoder, values, encoder.knowledge()).with_suffix(".safetensors")
        there = present(values)
        try:
            arrays = map_arrays(path)
            lens = np.array(arrays.pop(_LENS))
            if len(lens) == there.sum():
                content = Content(arrays, lens)
                if count is not None:
                    count(content)
                return content, there
        except (ModelFileError, KeyError):
            pass  # not kept, or damaged
        content, encoded = encode_values(encoder, values, bad, count)
        if (encoded == there).all() and content.ragged:
            arrays = {**content.data, _LENS: content.lens}
            self._keep(path, lambda to: save_arrays(to, arrays))
        return content, encoded

    def _path(self, what: str, kind: str, encoder: Encoder, values: Sequence[Any], *more: Any) -> Path:
        known = [__version__, what, kind, encoder.options.model_dump(mode="json"), *more]
        digest = hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=20)
        for value in values:  # strings, and lists of them, as Python writes them: no two write alike
            digest.update(repr(value).encode("utf-8", "backslashreplace") + b"\n")
        return self.folder / digest.hexdigest()

    def _keep(self, path: Path, write: Callable[[Path], object]) -> None:
        """Whole or not at all."""
        staging, lock = path.with_name(f".{path.name}{_STAGING}"), FileLock(self.folder / _LOCK)
        with disk_errors(self.folder):
            while not lock.in_place:
                lock.release()
                lock.acquire()
            try:
                write(staging)
                staging.replace(path)
            finally:
                staging.unlink(missing_ok=True)
                lock.remove()

    def _sweep(self) -> None:
        """Removes what a run that was killed had only begun to keep."""
        lock = FileLock(self.folder / _LOCK)
        if lock.path.exists() and lock.acquire(wait=False):
            for staging in self.folder.glob(f".*{_STAGING}"):
                staging.unlink(missing_ok=True)
            lock.remove()
