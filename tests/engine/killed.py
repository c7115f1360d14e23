"""Kills training runs with SIGKILL and prints how many died of it: `python killed.py writes|random FOLDER`.

Every run is a fork, so that PyTorch is loaded once. The test finishes what lies in the sub-folders of FOLDER.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from tiny import batches, trainer

from onetrunk.storage import atomic


def kill_at_write(place: Path, number: int) -> int:
    """A run that dies right after its `number`-th fsync."""
    pid = os.fork()
    if pid == 0:
        real, left = atomic._fsync, [number]

        def fsync(path: Path) -> None:
            real(path)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        atomic._fsync = fsync
        trainer(place).run()
        os._exit(0)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


def kill_after_records(place: Path, records: int, wait_s: float) -> int:
    """A run that is killed from outside a moment after it wrote so many records."""
    pid = os.fork()
    if pid == 0:

        def slow(step: int) -> list:
            time.sleep(0.005)
            return batches(step)

        trainer(place, make_batches=slow).run()
        os._exit(0)
    log = place / "metrics.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= records):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    time.sleep(wait_s)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


if __name__ == "__main__":
    mode, root = sys.argv[1], Path(sys.argv[2])
    draw = random.Random(0)
    if mode == "writes":
        killed = [kill_at_write(root / str(n), n) for n in range(1, 36, 3)]
    else:
        killed = [
            kill_after_records(root / str(run), records + draw.randrange(3), draw.uniform(0, 0.01))
            for run in range(5)
            for records in (1, 4, 8, 11)
        ]
    print(sum(killed))
