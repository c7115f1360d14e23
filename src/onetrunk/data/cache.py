"""What was learnt and encoded of a table's values, kept in a folder of the user's: the next run begins at once.

Files are named after a digest of all that they depend on: the values themselves, the column's type and options, what
its codec knows, the version. Nothing needs to be told when the data change, and what is damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onetrunk import __version__
from onetrunk.core import folder as files
from onetrunk.core.column import Codec
from onetrunk.core.content import Content
from onetrunk.core.errors import ModelFileError

_LENS = "lens"


class Cache:
    """A folder that only its owner may read: it holds the data, as tokens. Types that are read fast anyway are not
    kept (`Codec.cached`)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        with files.disk_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def fit(self, codec: Codec, kind: str, values: Sequence[Any]) -> None:
        """As `codec.fit`, for present values of a column of the type `kind`."""
        if not codec.cached:
            return codec.fit(values)
        path = self._path("fitted", kind, codec, values).with_suffix(".json")
        try:
            codec.set_knowledge(files.read_json(path)["knowledge"])
        except (ModelFileError, KeyError):
            codec.fit(values)
            self._keep(path, lambda to: files.write_json(to, {"knowledge": codec.knowledge()}))

    def encode(
        self, codec: Codec, kind: str, values: Sequence[Any], bad: Callable[[int, str], None]
    ) -> tuple[Content, np.ndarray]:
        """As `codec.encode_all`. Values of which some are bad are not kept: each run is told of them."""
        if not codec.cached:
            return codec.encode_all(values, bad)
        path = self._path("encoded", kind, codec, values, codec.knowledge()).with_suffix(".safetensors")
        present = np.array([value is not None for value in values], dtype=bool)
        try:
            arrays = {name: tensor.numpy() for name, tensor in files.load_tensors(path).items()}
            lens = arrays.pop(_LENS)
            if len(lens) == present.sum():
                return Content(arrays, lens), present
        except (ModelFileError, KeyError):
            pass  # not kept, or damaged
        content, found = codec.encode_all(values, bad)
        if (found == present).all():
            tensors = {n: torch.from_numpy(np.ascontiguousarray(x)) for n, x in content.gather().items()}
            self._keep(path, lambda to: files.save_tensors(to, {**tensors, _LENS: torch.from_numpy(content.lens)}))
        return content, found

    def _path(self, what: str, kind: str, codec: Codec, values: Sequence[Any], *more: Any) -> Path:
        told = [__version__, what, kind, codec.options.model_dump(mode="json"), *more]
        digest = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=20)
        for value in values:  # strings, and lists of them, as Python writes them: no two write alike
            digest.update(repr(value).encode("utf-8", "backslashreplace") + b"\n")
        return self.folder / digest.hexdigest()

    def _keep(self, path: Path, write: Callable[[Path], None]) -> None:
        """Whole or not at all."""
        staging = path.with_name(f".{path.name}.{os.getpid()}")
        with files.disk_errors(self.folder):
            try:
                write(staging)
                staging.replace(path)
            finally:
                staging.unlink(missing_ok=True)
