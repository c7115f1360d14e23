"""Pickled weights (.bin, .pt) to safetensors, in a process of its own that reaches no network (`unpickle`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from onetrunk.core.errors import ModelFileError
from onetrunk.storage.strict_json import read_json

_WHOLE, _INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_SECONDS = 3600


def pickled_weights(folder: Path) -> list[Path]:
    """The pickled weights of a checkpoint's folder; none where it has no such files."""
    if (folder / _INDEX).exists():
        named = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(v, str) and Path(v).name == v for v in named.values()):
            raise ModelFileError(f"{folder / _INDEX} should map tensors to files beside it (weight_map).")
        places = [folder / name for name in sorted(set(named.values()))]
        for place in places:
            if not place.exists():
                raise ModelFileError(f"{folder} lacks {place.name}, one of the {len(places)} files {_INDEX} names.")
        return places
    return [folder / _WHOLE] if (folder / _WHOLE).exists() else []


def convert(folder: Path, target: Path) -> None:
    """Puts safetensors files of a checkpoint's pickled weights in the folder `target`. Raises ModelFileError where a
    file holds more than tensors."""
    sources = pickled_weights(folder)
    if not sources:
        raise ModelFileError(f"{folder} has no {_WHOLE} and no {_INDEX}: there is nothing to convert.")
    for i, source in enumerate(sources):
        command = [sys.executable, "-m", f"{__package__}.unpickle", str(source), str(target / f"{i}.safetensors")]
        quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            raise ModelFileError(f"{source} cannot be converted: {reason}.")
