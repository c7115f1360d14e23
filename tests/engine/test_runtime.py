"""One object for the device, the clock and the cores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, Tiny, digest, trainer
from torch import nn

from onetrunk.core.batch import Loss
from onetrunk.core.errors import DivergedError, UsageError
from onetrunk.engine import runtime, world
from onetrunk.engine.mode import Mode
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.world import World

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


# -- devices ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "device"),
    [("auto", "cuda:0"), ("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")],
)
def test_a_device_that_is_there(two_gpus: None, name: str, device: str) -> None:
    assert Runtime.open(name).device == torch.device(device)


def test_without_an_accelerator_auto_is_the_cpu(no_gpu: None) -> None:
    assert Runtime.open().device == CPU and runtime.available_devices() == ["cpu"]


def test_mps_is_taken_when_it_is_named_alone(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert Runtime.open("auto").device == CPU and Runtime.open("mps").device.type == "mps"


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "cpu:0", "mps:0", "CUDA", "", "meta", "xpu", "cuda:1:1"]
)
def test_what_is_no_device_is_refused(no_gpu: None, name: str) -> None:
    with pytest.raises(UsageError, match=r"^--device expects auto, cpu, cuda, cuda:N or mps; found .*has cpu\.$"):
        Runtime.open(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_absent_is_refused(no_gpu: None, name: str) -> None:
    with pytest.raises(UsageError, match=rf"--device {name}: .* This machine has cpu\."):
        Runtime.open(name)


def test_an_index_too_high_names_those_that_there_are(two_gpus: None) -> None:
    with pytest.raises(UsageError, match=r"--device cuda:2: .*This machine has cpu, cuda, cuda:0, cuda:1\."):
        Runtime.open("cuda:2")


def test_a_runtime_of_a_module_is_where_its_parameters_are() -> None:
    assert Runtime.of(nn.Linear(1, 1)).device == CPU == Runtime.of(nn.Identity()).device
    assert Runtime.of(nn.Linear(1, 1, device="meta")).device.type == "meta"


def test_placing_moves_in_place() -> None:
    module = nn.Linear(2, 2)
    assert Runtime(torch.device("meta")).place(module) is module and module.weight.is_meta
    assert Runtime(CPU).place(module.to_empty(device="cpu")) is module and not module.weight.is_meta


def test_each_of_several_processes_takes_a_device_of_its_own(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_current", World(rank=3, size=4, local_rank=1, local_size=2))
    assert Runtime.open("cuda").device == Runtime.open("auto").device == torch.device("cuda:1")
    assert Runtime.open("cpu").device == CPU
    with pytest.raises(UsageError, match="--device cuda:0 is one device, and 4 processes take one each"):
        Runtime.open("cuda:0")


def test_dropout_is_seeded_on_the_device_alone() -> None:
    Runtime(CPU).seed(5)
    first = torch.rand(3)
    Runtime(CPU).seed(5)
    assert torch.equal(first, torch.rand(3)) and torch.equal(
        first, torch.rand(3, generator=torch.Generator().manual_seed(5))
    )


# -- the clock -------------------------------------------------------------------------------------------------------
@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is moved."""
    time = [0.0]
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: time[0])
    return time


@pytest.mark.parametrize(
    ("seconds", "at_least", "warm_up", "expected"), [(0.0, 1, 0, 1), (0.0, 3, 2, 3), (7.0, 1, 1, 4), (2.0, 3, 0, 3)]
)
def test_the_probe(clock: list[float], seconds: float, at_least: int, warm_up: int, expected: int) -> None:
    calls = []

    def work() -> None:
        calls.append(None)
        clock[0] += 100.0 if len(calls) <= warm_up else 2.0

    took = Runtime(CPU).time(work, seconds=seconds, at_least=at_least, warm_up=warm_up)
    assert took == [2.0] * expected and len(calls) == warm_up + expected


def test_a_timed_pass_leaves_no_gradient() -> None:
    class Net(nn.Linear):
        def forward(self, batch):
            return {"a": Loss(super().forward(batch).sum(), torch.tensor(1))}

    net = Net(2, 2)
    assert Runtime(CPU).pass_timer(net, torch.ones(1, 2))(True) > 0 and net.weight.grad is None


# -- the dry run -----------------------------------------------------------------------------------------------------
def test_a_dry_run_leaves_the_module_and_the_folder_as_they_were(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run")
    before, training = digest(run.module), run.module.training
    steps = []
    make, run.batches = run.batches, lambda step: (steps.append(step), make(step))[1]
    took = run.dry_run(0.0, at_least=4)
    assert len(took) == 4 and min(took) > 0 and steps == [0, 1, 2, 3, 4]
    assert digest(run.module) == before and run.module.training == training
    assert all(p.grad is None for p in run.module.parameters())
    assert not (tmp_path / "run").exists()


def test_a_run_after_a_dry_run_has_the_same_bits(tmp_path: Path) -> None:
    module = Tiny()
    trainer(tmp_path / "a", module=module).dry_run(0.0)
    trainer(tmp_path / "a", module=module).run()
    straight = trainer(tmp_path / "b")
    straight.run()
    assert digest(module) == digest(straight.module)


def test_a_dry_run_computes_as_the_run_will(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def decide(before: Mode, *_: object) -> Mode:
        seen.append(before)
        return Mode(True, False, False, "bf16: by the clock", timed=True)

    monkeypatch.setattr("onetrunk.engine.trainer.decide", decide)
    run = trainer(tmp_path)
    run.dry_run(0.0)
    assert len(seen) == 1 and run.mode.autocast and not list(tmp_path.iterdir())


def test_a_dry_run_that_diverges_leaves_nothing_behind(tmp_path: Path) -> None:
    run = trainer(tmp_path, CONFIG.updated(optimizer="sgd", lr=1000.0, schedule="constant", warmup=0.0, clip=0.0))
    before = digest(run.module)
    with pytest.raises(DivergedError):
        run.dry_run(0.0, at_least=40)
    assert digest(run.module) == before and not list(tmp_path.iterdir())


# -- cores -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        ({"cpu.max": "max 100000"}, []),
        ({"cpu.max": "150000 100000"}, [1.5]),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, [4.0]),
        ({"cpu.max": "nonsense"}, []),
    ],
)
def test_a_containers_quota_is_read(tmp_path: Path, files: dict[str, str], expected: list[float]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert runtime._quotas(tmp_path) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [({}, []), ({"memory.max": "max"}, []), ({"memory.max": "1024"}, [1024]),
     ({"memory/memory.limit_in_bytes": "9"}, [9])],
)  # fmt: skip
def test_a_containers_memory_is_read(tmp_path: Path, files: dict[str, str], expected: list[int]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert runtime._limits(tmp_path) == expected


@pytest.mark.parametrize(("cores", "options", "expected"), [(1.5, None, [2]), (0.4, None, [1]), (8.0, None, []),
                                                          (2.0, "8", [])])  # fmt: skip
def test_threads_by_the_cores_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, cores: float, options: str | None, expected: list[int]
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(runtime, "available_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if options:
        monkeypatch.setenv("OMP_NUM_THREADS", options)
    runtime.use_available_cores()
    assert chosen == expected


_WAITING = """
import onetrunk, os, torch
print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("KMP_BLOCKTIME"))
"""


@pytest.mark.parametrize(
    ("options", "expected", "spins"),
    [
        ({}, "None 1", "300000"),
        ({"OMP_WAIT_POLICY": "passive"}, "None None", "0"),
        ({"GOMP_SPINCOUNT": "77"}, "77 1", "77"),
        ({"KMP_BLOCKTIME": "200"}, "None 200", "300000"),
    ],
)
def test_how_threads_wait_is_as_told(options: dict[str, str], expected: str, spins: str) -> None:
    """What is set before PyTorch is imported reaches its OpenMP, which says what it read."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names} | options
    environment["OMP_DISPLAY_ENV"] = "verbose"
    done = subprocess.run([sys.executable, "-c", _WAITING], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected
    read = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    assert not read or set(read) == {spins}  # where PyTorch comes with another OpenMP there is none
