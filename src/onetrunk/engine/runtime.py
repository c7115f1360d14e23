"""Where a run computes, and how fast: one object for the device, the processes that share the work (`engine.world`),
precision, compiling and the clock.

A verb opens one Runtime (`--device`), and places its model with it; what trains or answers a placed model asks for its
Runtime with `Runtime.of(model)`. There is one clock, `Runtime.time`: it decides the precision and whether compiling
pays, measures the machine's rate, and times the steps of a dry run (`Trainer.dry_run`), from which come the steps that
a `--budget` allows and the seconds that `plan` predicts.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from onetrunk.core.errors import UsageError
from onetrunk.engine.mode import Pass
from onetrunk.engine.waiting import watch_others
from onetrunk.engine.world import World, current

M = TypeVar("M", bound=nn.Module)

_SIDE = 2048  # of the square matrices whose product measures the rate
_RATE_SECONDS = 0.15  # to measure for; the fastest product counts: the others shared the machine


@dataclass(frozen=True)
class Runtime:
    """This process computes on `device`, as one of `world`."""

    device: torch.device
    world: World = field(default_factory=current, compare=False)

    @classmethod
    def open(cls, device: str | torch.device = "auto") -> Runtime:
        """`auto` is the first CUDA device where there is one, else the CPU; of several processes each takes a CUDA
        device of its own. Raises UsageError for a device that is misspelt or absent."""
        use_available_cores()
        watch_others()
        opened = cls(find_device(str(device)))
        return opened if opened.world.alone else cls(_own(opened.device, str(device), opened.world))

    @classmethod
    def of(cls, module: nn.Module) -> Runtime:
        """Where the module's parameters are; the CPU where it has none."""
        return cls(next((p.device for p in module.parameters()), torch.device("cpu")))

    def place(self, module: M) -> M:
        """Moves the module to the device, in place."""
        return module.to(self.device)

    # -- randomness and memory -----------------------------------------------------------------------------------------
    def seed(self, value: int) -> None:
        """Seeds what dropout draws from. Not `torch.manual_seed`: it seeds every kind of device and, where one is
        absent, notes the call's whole stack."""
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(value)
        elif self.device.type == "mps":
            torch.mps.manual_seed(value)
        else:
            torch.default_generator.manual_seed(value)

    @property
    def memory_bytes(self) -> int:
        """All the memory there is: of a CUDA device, else of this machine or its container."""
        if self.device.type == "cuda":
            return int(torch.cuda.get_device_properties(self.device).total_memory)
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min([machine, *_limits()])

    @property
    def peak_bytes(self) -> int:
        """The most memory held so far: on a CUDA device, else by this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    @property
    def name(self) -> str:
        """For a person."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return {"cpu": "this CPU", "mps": "Apple's GPU (mps)"}.get(self.device.type, str(self.device))

    # -- the clock -----------------------------------------------------------------------------------------------------
    def now(self) -> float:
        """Seconds of a monotonic clock, once the device has done what it was told before."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def time(
        self, work: Callable[[], object], *, seconds: float = 0.0, at_least: int = 1, warm_up: int = 0
    ) -> list[float]:
        """The probe: does `work` `warm_up` times, then at least so often and for about so many seconds. Returns the
        seconds of each call that was no warm-up."""
        for _ in range(warm_up):
            work()
        took: list[float] = []
        start = self.now()
        end = start + seconds
        while len(took) < at_least or start < end:
            work()
            before, start = start, self.now()
            took.append(start - before)
        return took

    def pass_timer(self, module: nn.Module, batch: Any) -> Pass:
        """Times forward and backward passes on a micro-batch, for `engine.mode.decide`; they leave nothing in the
        module."""
        batch = batch.to(self.device)

        def timed(autocast: bool) -> float:
            (took,) = self.time(lambda: _pass(module, batch, self.device, autocast))
            return took

        return timed

    def gemm_rate(self, dtype: torch.dtype) -> float:
        """Floating-point operations a second of a large matrix product, measured once (a fraction of a second): what a
        training step's are compared with.

        The share is called MFU, model FLOP utilisation (arXiv 2204.02311): operations that the model's formula asks
        for, in a second of a whole step (batches, optimizer and all), of those that a large product alone makes. What
        is padding, or computed twice, does not count.
        """
        return _gemm_rate(self.device, dtype)


@cache
def _gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    a = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
    return 2 * _SIDE**3 / min(Runtime(device).time(lambda: a @ a, seconds=_RATE_SECONDS, at_least=3))


def _pass(module: nn.Module, batch: Any, device: torch.device, autocast: bool) -> None:
    """Forward and backward on a batch. It leaves nothing in the module."""
    with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
        losses = module(batch)
    if (total := sum(loss.sum for loss in losses.values())).requires_grad:
        total.backward()
    module.zero_grad(set_to_none=True)


# -- devices ---------------------------------------------------------------------------------------------------------
def available_devices() -> list[str]:
    """What `--device` takes on this machine."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def find_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Raises UsageError, which says what there is."""
    there = available_devices()
    if name == "auto":  # not mps, where operations are missing: who wants it names it
        return torch.device("cuda", 0) if "cuda" in there else torch.device("cpu")
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise UsageError(f"--device expects auto, cpu, cuda, cuda:N or mps; found {name!r}. {_choice(there)}")
    if name not in there:
        absent = kind == "cuda" and torch.version.cuda is None
        why = "this PyTorch is built without CUDA" if absent else "there is no such device here"
        raise UsageError(f"--device {name}: {why}. {_choice(there)}")
    return torch.device("cuda", int(index or 0)) if kind == "cuda" else torch.device(name)


def _own(device: torch.device, name: str, world: World) -> torch.device:
    """Of one of several processes."""
    if device.type != "cuda":
        return device
    if ":" in name:
        raise UsageError(
            f"--device {name} is one device, and {world.size} processes take one each: say --device cuda, and which "
            "ones with CUDA_VISIBLE_DEVICES."
        )
    return find_device(f"cuda:{world.local_rank}")


def _choice(there: list[str]) -> str:
    return f"This machine has {', '.join(there)}."


# -- cores -----------------------------------------------------------------------------------------------------------
def available_cores() -> float:
    """Cores that this process may use: those it is bound to, within the quota of its container (cgroup)."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(bound), *_quotas()])


def _quotas(root: Path = Path("/sys/fs/cgroup")) -> list[float]:
    """Cores by the quota of this container, of either version of cgroups; none where there is no limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return [] if quota == "max" else [int(quota) / int(period)]
    except (OSError, ValueError):
        pass
    try:
        quota_us, period_us = (int((root / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return [quota_us / period_us] if quota_us > 0 else []
    except (OSError, ValueError, ZeroDivisionError):
        return []


def _limits(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes that this container may hold; none where there is no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return [int((root / name).read_text())]
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return []


def use_available_cores() -> None:
    """No more threads than cores that may be used: PyTorch counts a machine's, also where a container gets two of them,
    and then threads wait for each other. OMP_NUM_THREADS decides where it is set."""
    cores = max(1, round(available_cores()))
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
