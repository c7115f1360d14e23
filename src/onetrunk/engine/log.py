"""`metrics.jsonl`, one record a line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from onetrunk.storage.disk import disk_errors

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
        self._board = _Board(folder / "tensorboard", step + 1, anew=not self.records) if tensorboard else None

    def write(self, record: Record) -> None:
        self.records.append(record)
        with disk_errors(self.path):
            self._stream.write(_line(record))
            self._stream.flush()
        if self._board is not None:
            self._board.write(_scalars(record), record["step"])

    def close(self) -> None:
        with disk_errors(self.path):
            self._stream.close()
        if self._board is not None:
            self._board.close()


class _Board:
    """One file of TensorBoard's events, written at once: its own writer writes in a thread, which a full disk ends with
    a traceback."""

    def __init__(self, folder: Path, step: int, anew: bool) -> None:
        """What the board holds from `step` on is forgotten; all of it with `anew`."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self.folder = folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if anew:
                for old in folder.glob("events.out.tfevents.*"):
                    old.unlink()
            name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{time.time_ns()}"
            self._file = (folder / name).open("ab")
        for event in (Event(step=step, file_version="brain.Event:2"),
                      Event(step=step, session_log=SessionLog(status=SessionLog.START))):  # fmt: skip
            self._append(event)

    def write(self, scalars: list[tuple[str, float]], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars]
        self._append(Event(step=step, summary=Summary(value=values)))

    def _append(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        with disk_errors(self.folder):
            RecordWriter(self._file).write(event.SerializeToString())
            self._file.flush()

    def close(self) -> None:
        with disk_errors(self.folder):
            self._file.close()


def read_records(path: Path) -> list[Record]:
    """The records of a metrics.jsonl, as far as its lines are such: what a kill has torn, or a hand has written, ends
    them."""
    records: list[Record] = []
    if not path.is_file():
        return records
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            break
        if not isinstance(record.get("losses") or {}, dict):
            break
        records.append(record)
    return records


def _whole_records(path: Path, step: int, validated: int) -> list[Record]:
    """What the log holds up to `step`."""
    return [r for r in read_records(path) if r["step"] <= (validated if "validation" in r else step)]


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
