"""Checkpoints: `checkpoints/step-N/` folders, committed whole, verified before use, pruned to the newest few.

Randomness is keyed, so there is no generator state to keep: weights, optimizer, averages and a small JSON
state are everything. `checkpoints/best/` holds the best weights so far.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from onetrunk.core.errors import ModelFileError
from onetrunk.storage import atomic
from onetrunk.storage.strict_json import read_json, write_json
from onetrunk.storage.tensors import load_tensors, save_tensors

TensorFiles = Mapping[str, Mapping[str, Tensor]]  # file name without extension to tensors
Shapes = Mapping[str, tuple[int, ...]]

_STATE = "state.json"
SCORES = "cross-validation.json"  # of the folds that are done
FOLD_ANSWERS = "cross-validation-{}-{}.safetensors"  # of a fold's held-out rows, and of one asked column by its number
# What a run puts in `checkpoints/`: steps, the best one, runs of other seeds and folds, and what a kill left of them.
_OWN = re.compile(
    r"((step|seed|fold)-\d+|best)(\.(old|tmp)-[0-9a-f]{32})?"
    r"|cross-validation(\.json(\.tmp)?|-\d+-\d+\.safetensors)"
)


class Checkpoints:
    """The checkpoints of one training run in `place`."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        if folder.is_dir():
            for name in {entry.name.partition(".")[0] for entry in folder.iterdir()}:
                atomic.recover(folder / name)

    def save(self, step: int, tensors: TensorFiles, state: dict[str, Any]) -> Path:
        """Commits `step-<step>/` and prunes older ones. Raises ResourceError; older ones are then intact."""
        path = self.folder / f"step-{step}"
        if path.exists():  # damaged: else the run would have gone on from it
            atomic.discard(path)
        self._commit(path, tensors, {"step": step, **state})
        self.prune(step)
        return path

    def prune(self, step: int) -> None:
        """Removes those that are older than the newest few up to this one, which is whole."""
        for old in [number for number in self._steps() if number <= step][self.keep :]:
            atomic.discard(self._path(old))

    def clear(self) -> None:
        """Removes all of them."""
        for path in [*(self._path(step) for step in self._steps()), self.folder / "best"]:
            if path.exists():
                atomic.discard(path)

    def save_best(self, weights: Mapping[str, Tensor], state: dict[str, Any]) -> None:
        self._commit(self.folder / "best", {"model": weights}, state)

    def latest(self, warn: Callable[[str], None]) -> Path | None:
        """The newest checkpoint that verifies; None when there is none at all.

        Damaged ones are passed over with a warning. Raises ModelFileError when all are damaged.
        """
        problem = None
        for step in self._steps():
            path = self._path(step)
            try:
                atomic.verify(path)
                return path
            except ModelFileError as error:
                problem = error
                warn(f"The checkpoint {path} is not used: {error}")
        if problem is not None:
            raise ModelFileError(
                f"Every checkpoint in {self.folder} is damaged; the last problem: {problem} "
                "Delete that folder to start anew."
            )
        return None

    def best(self, shapes: Shapes) -> dict[str, Tensor]:
        """The best weights. Raises ModelFileError when they are missing or damaged."""
        atomic.verify(self.folder / "best")
        return load_file(self.folder / "best", "model", shapes)

    def _commit(self, path: Path, tensors_of: TensorFiles, state: dict[str, Any]) -> None:
        def write(staging: Path) -> None:
            for name, tensors in tensors_of.items():
                save_tensors(staging / f"{name}.safetensors", tensors)
            write_json(staging / _STATE, state)

        needs = sum(tensor.nbytes for tensors in tensors_of.values() for tensor in tensors.values())
        atomic.commit(path, write, replace=True, needs=needs)

    def _steps(self) -> list[int]:
        """The steps on disk, newest first: by number, never by the clock."""
        if not self.folder.is_dir():
            return []
        names = (re.fullmatch(r"step-(\d+)", entry.name) for entry in self.folder.iterdir())
        return sorted((int(match[1]) for match in names if match), reverse=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step}"


def clear_run(folder: Path) -> None:
    """Removes what a run left in a folder beside its model, and nothing else."""
    checkpoints, board = folder / "checkpoints", folder / "tensorboard"
    if checkpoints.is_dir():
        for entry in [entry for entry in checkpoints.iterdir() if _OWN.fullmatch(entry.name)]:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for file in board.glob("events.out.tfevents.*"):
        file.unlink()
    for folder_of_run in (checkpoints, board):
        if folder_of_run.is_dir() and not any(folder_of_run.iterdir()):
            folder_of_run.rmdir()
    for name in atomic.TRAINING:
        if not (folder / name).is_dir():
            (folder / name).unlink(missing_ok=True)


def load_file(checkpoint: Path, name: str, shapes: Shapes) -> dict[str, Tensor]:
    """The tensors of one file; names and shapes must be exactly these. Raises ModelFileError."""
    return load_tensors(checkpoint / f"{name}.safetensors", shapes)


def load_state(checkpoint: Path, keys: set[str]) -> dict[str, Any]:
    """The JSON state; raises ModelFileError when one of `keys` is missing: nothing silently starts anew."""
    state = read_json(checkpoint / _STATE)
    for key in sorted(keys - state.keys()):
        raise ModelFileError(
            f"{checkpoint / _STATE} lacks {key!r}: training cannot go on from it exactly. "
            "Delete this checkpoint to go on from an older one."
        )
    return state


def planned_steps(folder: str | Path) -> int | None:
    """How many steps the run in `folder` is planned for, to those who make steps of a time budget; None where
    there is no run. Raises ModelFileError when none of its checkpoints can be used.
    """
    newest = Checkpoints(Path(folder) / "checkpoints").latest(lambda warning: None)
    return None if newest is None else load_state(newest, {"config"})["config"]["steps"]
