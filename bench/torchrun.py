"""Runs of several processes on this machine, started by torchrun, for the comparisons that need them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.common import ROOT
from onetrunk.core.errors import UsageError
from onetrunk.storage.tensors import load_tensors

FILES = ("model.safetensors", "columns.safetensors")


def write_table(path: Path, rows: int, words: int, seed: int = 0) -> Path:
    """A table of texts of about so many words, with a number and two classes."""
    draw = random.Random(seed)
    known = ["".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5)) for _ in range(200)]
    with path.open("w", encoding="utf-8") as file:
        file.write("text,size,kind,label\n")
        for _ in range(rows):
            text = " ".join(draw.choice(known) for _ in range(draw.randint(1, 2 * words - 1)))
            file.write(f"{text},{draw.gauss(3, 1):.2f},{draw.choice('abc')},{'yes' if known[0] in text else 'no'}\n")
    return path


def start(processes: int, words: list[str], threads: int = 1, log: Path | None = None) -> subprocess.Popen[bytes]:
    """A command of onetrunk, by so many processes of so many threads each; by one without torchrun."""
    launcher = ["torch.distributed.run", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    out = subprocess.DEVNULL if log is None else log.open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "onetrunk", *words],
        cwd=ROOT, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip


def finish(processes: int, words: list[str], threads: int, log: Path) -> None:
    """Runs it to the end. Raises UsageError with its last words where it fails."""
    if start(processes, words, threads, log).wait():
        raise UsageError(f"onetrunk {' '.join(words)} failed: {log.read_text(errors='replace')[-2000:]}")


def ranks(launcher: int) -> dict[int, int]:
    """The processes that torchrun has started, by rank."""
    out = {}
    for pid in _children(launcher):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        names = dict(entry.partition(b"=")[::2] for entry in environment)
        if b"RANK" in names:
            out[int(names[b"RANK"])] = pid
    return out


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill_one(run: subprocess.Popen[bytes], rank: int, after: float) -> float | None:
    """Kills one rank of a run that began so many seconds ago. Returns in how many seconds all had ended after it; None
    where the run was at its end before."""
    end = time.monotonic() + after
    while time.monotonic() < end or not ranks(run.pid):
        if run.poll() is not None:
            return None
        time.sleep(0.01)
    there = ranks(run.pid)
    if rank not in there:
        return None if run.wait() == 0 else 0.0
    try:
        os.kill(there[rank], signal.SIGKILL)
    except ProcessLookupError:
        run.wait()
        return None
    began = time.monotonic()
    run.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in there.values()):
        time.sleep(0.01)
    return time.monotonic() - began


def losses(folder: Path) -> dict[int, str]:
    """The exact losses of every step."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: json.dumps(record["losses"]) for record in records if "losses" in record}


def equal(one: Path, other: Path) -> bool:
    """Have two runs left the same bits?"""
    same_files = all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)
    return same_files and losses(one) == losses(other)


def furthest(one: Path, other: Path) -> float:
    """The largest difference of a weight of two model folders."""
    worst = 0.0
    for name in FILES:
        ours, theirs = load_tensors(one / name), load_tensors(other / name)
        for key, tensor in ours.items():
            if tensor.numel():
                worst = max(worst, float((tensor.double() - theirs[key].double()).abs().max()))
    return worst
