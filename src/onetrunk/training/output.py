"""The output folder of a run: checked before any work, and marked as unfinished until the run ends.

The mark (`unfinished.json`) says which command the run is of, and how far it came. The same command, given again after
a kill, goes on from there; `--overwrite` then replaces nothing of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.data.seen_rows import record
from onetrunk.data.split import SPLITS
from onetrunk.engine.checkpoint import clear_run
from onetrunk.engine.world import current
from onetrunk.inference.adapter import base_digest
from onetrunk.storage import atomic
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.locks import lock_folder
from onetrunk.storage.strict_json import read_json, write_json_whole
from onetrunk.training.open_data import Data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.recipe import Recipe

PRETRAINED, TRAINING, EVALUATING = "pretrained", "training", "evaluating"  # stages: the foundation is made; then
_OF_NO_WEIGHT = (
    "out",
    "overwrite",
    "device",
    "allow_network",
    "max_memory",
    "track",
    "lang",
    "config",
    "settings",
)  # the recipe holds settings
_SAMPLED_ROWS = 256  # by which a table is known again


def check_free(out: str | Path, overwrite: bool) -> None:
    """Raises UsageError before any work when the result could not be put at `out`. Nothing is changed."""
    path = Path(out)
    _check_way(path)
    if (path / atomic.MANIFEST).exists():
        if not overwrite:
            raise UsageError(f"{path} already exists. Choose another --out, or replace it with --overwrite.")
    elif path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        if names and not names & {*atomic.TRAINING}:
            raise UsageError(f"{path} holds other files and no model; name another --out.")


def _check_way(path: Path) -> None:
    """Can there be a folder at `path`? Raises UsageError."""
    try:
        whole = atomic.real(path)
        for part in (path, *path.parents):
            if part.is_file():
                raise UsageError(f"{part} is a file; name another --out.")
    except (OSError, ValueError) as error:  # too long a name, a loop of links; a NUL
        raise UsageError(f"--out {str(path)[:100]!r} cannot be a folder: {error.args[-1]}.") from None
    if not whole.name:
        raise UsageError(f"--out {str(path)!r} is the whole disk; name another --out.")


def take_over(path: str | Path) -> None:
    """Keeps other processes from writing there, until `locks_end`, and puts right what a killed one left."""
    lock_folder(atomic.real(path))
    atomic.recover(path)


class Output:
    """The folder of a run's result. `goes_on`: a run of the same command was stopped there, at `stage`.

    As long as it is made (`locks_end`) no other process may write there. Nothing is removed before `begin`, which a run
    calls when all else is checked. Without a `command` (its digest) there is no mark: a run then goes on from whatever
    checkpoints are there, or the trainer refuses them.
    """

    def __init__(
        self,
        path: str | Path,
        overwrite: bool = False,
        command: str = "",
        *,
        beside: Sequence[Path] = (),
        together: bool = False,
    ) -> None:
        """`beside`: other folders that the same run makes, and takes over before it can be refused: what a killed one
        left there is then gone in any case. `together`: several processes make it, and keep apart by a lock of their
        own."""
        self.path, self.overwrite, self.command = Path(path), overwrite, command
        _check_way(self.path)
        if together:
            atomic.recover(path)
        else:
            for each in (path, *beside):
                take_over(each)
        left = _read_mark(self.path)
        self.goes_on = bool(command) and left.get("command") == command
        self.of_another = bool(left) and not self.goes_on
        self.stage = str(left.get("stage", "")) if self.goes_on else ""
        self.rows = str(left.get("rows", "")) if self.goes_on else ""
        self.shares = shares_of_run(path, command) or current().size
        check_free(path, overwrite or self.goes_on)
        self.replaces, self.continues = overwrite or self.goes_on, self.goes_on
        self._begun = False

    def open(self, data: Data) -> None:
        """Raises UsageError where the folder holds the model of a run on other rows, and may not be replaced."""
        rows = _rows_digest(data)
        if self.goes_on and rows != self.rows:
            self.goes_on, self.continues, self.of_another, self.stage = False, False, True, ""
            check_free(self.path, self.overwrite)
            self.replaces = self.overwrite
        self.rows = rows

    @property
    def resumes(self) -> bool:
        """May checkpoints that are there be those of this run? Else they are of one that is replaced."""
        return self._begun or not self.overwrite or (self.goes_on and self.stage != PRETRAINED)

    @property
    def trainer_resumes(self) -> bool | Literal["same"]:
        """What the trainer is told: the same command begins anew where it cannot go on exactly, for a clock or a new
        version decided otherwise; what may be of another command is refused."""
        return "same" if self.overwrite or self.continues else True

    def begin(self) -> None:
        """From here on the folder is this run's: what a run that it replaces left beside its model is removed."""
        if not self.resumes:
            clear_run(self.path)
        self._begun = True
        if self.overwrite or not self.of_another:  # else the trainer says why it cannot go on from another's
            self.mark(TRAINING)

    def mark(self, stage: str) -> None:
        """Says how far the run has come."""
        if self.command and stage != self.stage:
            with disk_errors(self.path):
                atomic.real(self.path).mkdir(parents=True, exist_ok=True)
                mark = {"command": self.command, "rows": self.rows, "stage": stage, "shares": self.shares}
                write_json_whole(self.path / atomic.UNFINISHED, mark)
            self.goes_on, self.stage = True, stage

    def finish(self) -> None:
        """The run is at its end."""
        if self.goes_on:
            (self.path / atomic.UNFINISHED).unlink(missing_ok=True)


def command_digest(verb: str, options: TrainingOptions, recipe: Recipe, **more: Any) -> str:
    """Equal for a command given twice: what it was told, and the model folders it begins with (`start`, `teacher`)."""
    settings = {k: v for k, v in vars(options).items() if k not in _OF_NO_WEIGHT} | more
    text = json.dumps([verb, settings, recipe.model_dump(mode="json", exclude={"device"})], sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16)
    for start in (options.start, more.get("teacher")):
        if start is not None and (Path(start) / atomic.MANIFEST).exists():
            digest.update(base_digest(Path(start)).encode())
    return digest.hexdigest()


def shares_of_run(path: str | Path, command: str) -> int | None:
    """Into how many shares a run that was stopped there divides its steps; None where there is none of this command."""
    left = _read_mark(Path(path))
    return int(left.get("shares", 1)) if command and left.get("command") == command else None


def _read_mark(path: Path) -> dict[str, Any]:
    try:
        return read_json(path / atomic.UNFINISHED)
    except ModelFileError:  # there is none, or its writer was killed
        return {}


def _rows_digest(data: Data) -> str:
    """Equal for equal tables, as far as some of their rows tell."""
    n = len(data.table)
    sample = data.table.take(np.unique(np.linspace(0, max(0, n - 1), min(n, _SAMPLED_ROWS)).astype(np.int64)))
    none = np.zeros(0, dtype=np.int64)
    splits = {name: none for name in SPLITS} | {SPLITS[0]: np.arange(len(sample))}
    rows = record(sample, data.types, data.given or data.ask, splits).digest()
    facts = [n, data.table.names, data.given, data.ask, rows]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
