"""What work costs: read from counters where there are some, else estimated and called so."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.engine.cost import Cost, CostSettings, Meter


def zone(root: Path, number: str, name: str, energy: int, size: int = 1_000_000_000) -> Path:
    """A zone as Linux shows it (Documentation/power/powercap)."""
    place = root / f"intel-rapl:{number}"
    place.mkdir()
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{size}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    return place / "energy_uj"


def test_without_counters_energy_is_reckoned_from_busy_cores(tmp_path: Path) -> None:
    before = time.process_time()
    meter = Meter(CostSettings(core_watts=10, co2_g_per_kwh=500), powercap=tmp_path / "none")
    while time.process_time() - before < 0.2:
        pass
    cost = meter.lap()
    assert not cost.measured and cost.how.startswith("estimated: 10 W for 0.2")
    assert cost.wh == pytest.approx(10 * 0.2 / 3600, rel=0.2)
    assert cost.co2_g == pytest.approx(cost.wh / 1000 * 500)
    assert cost.seconds > 0.1
    unit = 1 if sys.platform == "darwin" else 1024
    assert cost.peak_bytes == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, rel=0.05)
    assert meter.lap().wh < cost.wh / 2, "a lap begins anew"


def test_other_processes_that_it_started_count(tmp_path: Path) -> None:
    meter = Meter(powercap=tmp_path)
    busy = "import time\nwhile time.process_time() < .3: pass"
    subprocess.run([sys.executable, "-S", "-c", busy], check=True)
    assert meter.so_far().wh > 6 * 0.25 / 3600


def test_packages_and_their_memory_are_read_and_nothing_twice(tmp_path: Path) -> None:
    package, other = zone(tmp_path, "0", "package-0", 900_000_000), zone(tmp_path, "1", "package-1", 0)
    core, dram = zone(tmp_path, "0:0", "core", 0), zone(tmp_path, "0:1", "dram", 5)
    zone(tmp_path, "2", "psys", 0).write_text("7")
    meter = Meter(powercap=tmp_path)
    for path, value in ((package, 950_000_000), (other, 3_600_000), (core, 999_999), (dram, 1_000_005)):
        path.write_text(str(value))
    assert meter.so_far().wh == pytest.approx((50 + 3.6 + 1) / 3600)
    package.write_text("100000000")  # it has begun anew, after 50 joules more
    meter.sample()
    package.write_text("200000000")
    cost = meter.lap()
    assert cost.wh == pytest.approx((50 + 3.6 + 1 + 150 + 100) / 3600, rel=1e-6)
    assert cost.measured and cost.how == "measured: RAPL of package-0, dram, package-1"
    assert meter.lap().wh == 0


def test_counters_that_may_not_be_read_are_left_out(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 1).unlink()
    zone(tmp_path, "1", "package-1", 1).write_text("no number")
    assert not Meter(powercap=tmp_path).lap().measured


def test_a_device_without_a_counter_is_estimated_and_makes_all_an_estimate(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 0)
    cost = Meter(CostSettings(device_watts=720), "mps", powercap=tmp_path).lap()
    assert not cost.measured and "RAPL of package-0; 720 W for 0.0 seconds of the accelerator" in cost.how
    assert cost.wh == pytest.approx(720 * cost.seconds / 3600, rel=0.05)


def test_costs_are_shared_out_and_come_back_from_json() -> None:
    cost = Cost(10.0, 2.0, 1.0, 500, True, "measured: RAPL of package-0")
    assert cost.times(0.5) == Cost(5.0, 1.0, 0.5, 500, True, cost.how)
    assert Cost.of_json({"verb": "train", **cost.as_json()}) == cost


@pytest.mark.parametrize("wrong", [{"core_watts": 0}, {"device_watts": -1}, {"co2_g_per_kwh": -1}, {"watts": 3}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        CostSettings.parse(wrong)
