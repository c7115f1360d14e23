"""`metrics.jsonl`, one record a line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetrunk.storage.disk import disk_errors

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Record = dict[str, Any]  # always with "step": how many updates were done; "validation" in those of a validation


class MetricsLog:
    """Appends records; opening cuts what came after `step` (or `validated`) and will come again."""

    def __init__(self, folder: Path, step: int, validated: int, tensorboard: bool) -> None:
        self.path = folder / "metrics.jsonl"
        self.records = _whole_records(self.path, step, validated)
        with disk_errors(self.path):
            fresh = self.path.with_suffix(".jsonl.tmp")
            fresh.write_text("".join(map(_line, self.records)), encoding="utf-8")
            os.replace(fresh, self.path)
            self._stream = self.path.open("a", encoding="utf-8")
        self._board: SummaryWriter | None = None
        if tensorboard:
            if not self.records:
                for old in (folder / "tensorboard").glob("events.out.tfevents.*"):
                    old.unlink()
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, record: Record) -> None:
        self.records.append(record)
        with disk_errors(self.path):
            self._stream.write(_line(record))
            self._stream.flush()
        if self._board is not None:
            for name, value in _scalars(record):
                self._board.add_scalar(name, value, record["step"])

    def close(self) -> None:
        with disk_errors(self.path):
            self._stream.close()
        if self._board is not None:
            self._board.close()


def _whole_records(path: Path, step: int, validated: int) -> list[Record]:
    """What the log holds up to `step`; a line torn by a kill ends it."""
    records: list[Record] = []
    if not path.exists():
        return records
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["step"] <= (validated if "validation" in record else step):
            records.append(record)
    return records


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _scalars(record: Record) -> list[tuple[str, float]]:
    """Numbers by TensorBoard name: nested groups joined by a slash."""
    out = []
    for name, value in record.items():
        if isinstance(value, dict):
            out += [(f"{name}/{inner}", number) for inner, number in _scalars(value)]
        elif isinstance(value, int | float) and name != "step":
            out.append((name, value))
    return out
