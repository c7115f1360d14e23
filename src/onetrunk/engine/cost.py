"""What work costs: time, energy, CO2 and memory. Energy is measured where the machine lets it be read, else estimated
and called so.

Measured: Intel's and AMD's counters of whole packages and their memory (RAPL, through Linux's powercap), and NVIDIA's
counter of a board (NVML). They count what other programs do, too. Estimated: seconds of busy cores, and seconds of a
device, times a power that the settings say. Nothing is sent anywhere.
"""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from onetrunk.core.config import Config
from onetrunk.engine.planning import CORE_WATTS, DEVICE_WATTS, published_watts

CO2_G_PER_KWH = 473.0  # of electricity, the world's mean of 2024 (Ember, Global Electricity Review 2025)
_POWERCAP = Path("/sys/class/powercap")
_SAMPLED = 30.0  # seconds: a package's counter begins anew after some 15 minutes at full power
_JOULES_PER_WH = 3600.0


class CostSettings(Config):
    """What is assumed of energy where it is not measured, and of its CO2."""

    core_watts: float = Field(CORE_WATTS, gt=0, description="Power of a busy core, where energy cannot be measured.")
    device_watts: float | None = Field(
        None, gt=0, description="Power of an accelerator, where its energy cannot be measured; by default as published."
    )
    co2_g_per_kwh: float = Field(
        CO2_G_PER_KWH, ge=0, description="CO2 of a kWh of your electricity, in grams; the default is the world's mean."
    )


@dataclass(frozen=True)
class Cost:
    """`peak_bytes`: the most memory that this process has held so far. `how` says where the energy is from."""

    seconds: float
    wh: float
    co2_g: float
    peak_bytes: int
    measured: bool
    how: str

    def times(self, share: float) -> Cost:
        """Of so much of the work; memory stays."""
        return Cost(share * self.seconds, share * self.wh, share * self.co2_g, self.peak_bytes, self.measured, self.how)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Self:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


class Meter:
    """Counts from when it is made, or from the last `lap` on."""

    def __init__(
        self, settings: CostSettings | None = None, device: str = "cpu", *, powercap: Path = _POWERCAP
    ) -> None:
        self.settings, self.device = settings or CostSettings(), device
        self._packages = _packages(powercap)
        self._board = _board(device) if device.startswith("cuda") else None
        self._lock = threading.Lock()
        self._joules = 0.0
        if self._packages:
            threading.Thread(target=_sample, args=(weakref.ref(self),), daemon=True).start()
        self._start()

    def lap(self) -> Cost:
        """What was spent since then; from now on it counts anew."""
        cost = self.so_far()
        self._start()
        return cost

    def so_far(self) -> Cost:
        seconds, cores = time.perf_counter() - self._began, _core_seconds() - self._cores_then
        joules, how, measured = self._of_cores(cores)
        if self.device != "cpu":
            more, of_device, is_measured = self._of_device(seconds)
            joules, how, measured = joules + more, f"{how}; {of_device}", measured and is_measured
        wh = joules / _JOULES_PER_WH
        how = f"{'measured' if measured else 'estimated'}: {how}"
        return Cost(seconds, wh, wh / 1000 * self.settings.co2_g_per_kwh, self._peak(), measured, how)

    def sample(self) -> None:
        """Adds up the packages' counters, before they begin anew."""
        with self._lock:
            self._joules += sum(package.joules() for package in self._packages)

    def _start(self) -> None:
        self.sample()
        self._joules = 0.0
        self._board_then = None if self._board is None else self._board()
        self._began, self._cores_then = time.perf_counter(), _core_seconds()

    def _of_cores(self, cores: float) -> tuple[float, str, bool]:
        if self._packages:
            self.sample()
            return self._joules, f"RAPL of {', '.join(package.name for package in self._packages)}", True
        watts = self.settings.core_watts
        return watts * cores, f"{watts:g} W for {cores:,.1f} seconds of a core", False

    def _of_device(self, seconds: float) -> tuple[float, str, bool]:
        now = None if self._board is None else self._board()
        if now is not None and self._board_then is not None:
            return now - self._board_then, "NVML of the board", True
        watts = self.settings.device_watts or _published_watts(self.device)
        return watts * seconds, f"{watts:g} W for {seconds:,.1f} seconds of the accelerator", False

    def _peak(self) -> int:
        if self.device.startswith("cuda"):
            import torch

            return torch.cuda.max_memory_allocated(self.device)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _sample(meter: weakref.ref[Meter]) -> None:
    while True:
        time.sleep(_SAMPLED)
        if (there := meter()) is None:
            return
        there.sample()
        del there


def _core_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    done = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + done.ru_utime + done.ru_stime


def _published_watts(device: str) -> float:
    import torch

    return (published_watts(torch.cuda.get_device_name(device)) if device.startswith("cuda") else None) or DEVICE_WATTS


# -- counters ----------------------------------------------------------------------------------------------------------
@dataclass
class _Package:
    """A counter of microjoules that begins anew at `size`."""

    name: str
    path: Path
    size: int
    last: int = field(default=0)

    def joules(self) -> float:
        """Since it was last read."""
        now = int(self.path.read_text())
        passed, self.last = (now - self.last) % self.size, now
        return passed / 1e6


def _packages(powercap: Path) -> list[_Package]:
    """Packages and the memory beside them, as far as they may be read (usually by root alone)."""
    out = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if not name.startswith(("package", "dram")):  # cores are part of a package, which is part of psys
                continue
            size = int((zone / "max_energy_range_uj").read_text()) + 1
            out.append(_Package(name, zone / "energy_uj", size, int((zone / "energy_uj").read_text())))
        except (OSError, ValueError):
            continue
    return out


def _board(device: str) -> Callable[[], float | None] | None:
    """Reads the joules that a CUDA device's board has used; None where its driver does not tell."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    import torch

    identifier = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    handle = ctypes.c_void_p()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(identifier, ctypes.byref(handle)):
        return None

    def joules() -> float | None:
        millijoules = ctypes.c_ulonglong()
        failed = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1000

    return None if joules() is None else joules
