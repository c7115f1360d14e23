"""A command given by torchrun, on two processes of this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import onetrunk

SETTINGS = ["finetune.steps=6", "train.precision=fp32", "train.tensorboard=false"]
ARGUMENTS = {"ask": ["label"], "size": "nano", "quiet": True}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        f"a row of {'red' if i % 3 else 'blue'} things {i % 7},{i % 5}.5,{'yes' if i % 3 else 'no'}" for i in range(60)
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["text,size,label", *rows]))
    return path


def torchrun(*words: str, meeting: Path | None = None) -> subprocess.Popen[str]:
    """`meeting` is the file by which the launcher itself meets others: it then opens no port (docs/scale.md)."""
    by_file = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={meeting}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *(by_file if meeting else [])]
    own = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if meeting else {}
    return subprocess.Popen(
        [*launcher, "-m", "onetrunk", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **own},
    )  # fmt: skip


def listening(*pids: int) -> list[str]:
    """Addresses on which processes listen, as the system writes them."""
    found = []
    for pid in map(str, pids):
        try:
            targets = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
            tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
        except OSError:  # it has just ended
            continue
        inodes = {match[1] for target in targets if (match := re.fullmatch(r"socket:\[(\d+)\]", target))}
        found += [f[1] for lines in tables for line in lines if (f := line.split())[3] == "0A" and f[9] in inodes]
    return found


def children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def test_two_processes_make_the_model_of_one_and_one_of_them_speaks(tmp_path: Path, table: Path) -> None:
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    out = tmp_path / "two"
    run = torchrun("finetune", str(table), "--ask=label", "--size=nano", f"--out={out}", "--json", *words)
    addresses = set()
    while run.poll() is None:
        addresses |= set(listening(*children(run.pid)))
        time.sleep(0.05)
    printed, errors = run.communicate()
    assert run.returncode == 0, errors
    assert json.loads(printed)["tasks"] == [{"given": ["text", "size"], "ask": ["label"]}], "rank 0 alone prints"
    assert all(address.startswith("0100007F:") for address in addresses), "nothing listens on a network"
    assert addresses or sys.platform != "linux"
    one = tmp_path / "one"
    onetrunk.finetune(table, out=str(one), settings=[*SETTINGS, "train.shares=2"], **ARGUMENTS)
    for name in ("model.safetensors", "columns.safetensors"):
        assert (out / name).read_bytes() == (one / name).read_bytes()
    records = [[json.loads(line).get("losses") for line in (f / "metrics.jsonl").open()] for f in (out, one)]
    assert records[0] == records[1] and len(records[0]) >= 6
    run = torchrun("evaluate", str(out), str(table), "--allow-equal-rows", "--json", meeting=tmp_path / "meeting")
    addresses = set()
    while run.poll() is None:
        addresses |= set(listening(run.pid, *children(run.pid)))
        time.sleep(0.05)
    printed, errors = run.communicate()
    assert run.returncode == 0, errors
    assert all(address.startswith("0100007F:") for address in addresses), "nor does the launcher"
    assert addresses or sys.platform != "linux"
    (task,), alone = json.loads(printed)["tasks"], onetrunk.evaluate(str(one), table, allow_equal_rows=True, quiet=True)
    assert task["rows"] == alone.tasks[0].rows == 60
    assert task["metrics"] == pytest.approx(alone.tasks[0].metrics, rel=1e-4, abs=1e-6), "judged by both"


def test_an_error_is_told_once_and_names_its_rank(tmp_path: Path, table: Path) -> None:
    run = torchrun("finetune", str(table), "--ask=nothing", f"--out={tmp_path / 'out'}")
    _, errors = run.communicate()
    assert run.returncode != 0
    assert errors.count("onetrunk: rank 0: Unknown column 'nothing'") == 1
    assert "exitcode  : 2" in errors and "rank      : 1" not in errors, "the other process ends in order"
