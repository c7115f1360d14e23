"""What a model was made of, and how: provenance.json. The rows that its stages have seen (`data.seen_rows`) lie in
seen_rows.safetensors beside it, which is mapped: it grows with the rows, and few who open a model look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from onetrunk.core.errors import ModelFileError
from onetrunk.data.seen_rows import SeenRows
from onetrunk.storage.regular import RESTORE
from onetrunk.storage.strict_json import read_json, write_json
from onetrunk.storage.tensors import load_tensors, save_tensors

FILE, ROWS = "provenance.json", "seen_rows.safetensors"
_SEEN, _FIRST_EDITION = "seen_rows", "met"  # of a stage


def write_provenance(folder: Path, provenance: dict[str, Any]) -> None:
    """Both files; that of the rows only where a stage has seen some."""
    stages, arrays = [], {}
    for number, stage in enumerate(provenance.get("stages", [])):
        seen = stage.get(_SEEN)
        if isinstance(seen, SeenRows):
            arrays[f"{number}.digests"] = torch.from_numpy(seen.digests.view("<i8"))
            arrays[f"{number}.splits"] = torch.from_numpy(seen.splits)
            stage = {**stage, _SEEN: seen.as_json()}
        stages.append(stage)
    write_json(folder / FILE, {**provenance, "stages": stages} if stages else provenance)
    if arrays:
        save_tensors(folder / ROWS, arrays)


def read_provenance(folder: Path) -> dict[str, Any]:
    """Raises ModelFileError for what was not written so."""
    provenance = read_json(folder / FILE)
    arrays = load_tensors(folder / ROWS) if (folder / ROWS).exists() else {}
    try:
        for number, stage in enumerate(provenance.get("stages", [])):
            if _FIRST_EDITION in stage:
                stage[_SEEN] = stage.pop(_FIRST_EDITION)
            if (kept := stage.get(_SEEN)) is None:
                continue
            if isinstance(kept["rows"], str):
                stage[_SEEN] = SeenRows.of_text(kept)
            else:
                digests, splits = (arrays[f"{number}.{name}"].numpy() for name in ("digests", "splits"))
                stage[_SEEN] = SeenRows.parse(kept, digests, splits)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{folder / FILE} does not say which rows were seen: {error}. {RESTORE}") from None
    return provenance
