"""Commands in processes of their own, whose private memory is watched: what is mapped from files is none."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.common import ROOT
from onetrunk.core.errors import UsageError

_POLLED = 0.2  # seconds


def watched(words: list[str], environment: Mapping[str, str]) -> tuple[float, int]:
    """Runs a command to its end: seconds, and the most private memory of it and its descendants, in bytes. Raises
    UsageError with its last words where it fails."""
    began, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **environment}, stdout=said, stderr=said)
        while process.poll() is None:
            peak = max(peak, _private(process.pid))
            time.sleep(_POLLED)
        seconds = time.monotonic() - began
        if process.returncode:
            said.seek(0)
            raise UsageError(f"{json.dumps(words)[:500]} failed: {said.read()[-2000:]}")
    return seconds, peak


def _private(pid: int) -> int:
    """Bytes of private memory of a process and its descendants."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        own = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0)
        tasks = [
            Path(f"/proc/{pid}/task/{task}/children").read_text().split() for task in os.listdir(f"/proc/{pid}/task")
        ]
    except OSError:  # it has just ended
        return 0
    return own + sum(_private(int(child)) for children in tasks for child in children)
