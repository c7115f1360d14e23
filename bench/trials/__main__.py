"""python -m bench.trials PART: one part of `python -m bench edges`. JSON in, JSON out.

A part has `units`, each tried by `try_unit` in one of several processes that are forks of this one; what they share is
made by `prepare` before. What was found of a unit is kept in the folder `kept`, so that a part that was stopped goes on
with the units that are left.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import re
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from bench.trials.attempts import Limits
from bench.trials.checks import Checks


def _tried(unit: str, part: str, told: dict[str, Any]) -> dict[str, Any]:
    """What was found of one unit, in a folder of its own."""
    checks, started = Checks(told["seed"]), time.monotonic()
    place = Path(told["place"]) / _file_name(unit)
    module = importlib.import_module(f"bench.trials.{part}")
    module.try_unit(unit, checks, place, Limits(**told["limits"]), **told["amounts"])
    shutil.rmtree(place, ignore_errors=True)
    found = checks.as_json() | {"seconds": time.monotonic() - started}
    half = _kept_at(unit, told).with_suffix(".half")
    half.write_text(json.dumps(found), encoding="utf-8")
    half.rename(_kept_at(unit, told))
    return found


def _file_name(unit: str) -> str:
    return re.sub(r"\W+", "-", unit)


def _kept_at(unit: str, told: dict[str, Any]) -> Path:
    return Path(told["kept"]) / f"{_file_name(unit)}.json"


def _kept(unit: str, told: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run has found of this unit."""
    path = _kept_at(unit, told)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def main() -> None:
    part, told = sys.argv[1], json.loads(sys.stdin.read())
    torch.set_num_threads(1)  # a fork has one thread, and would wait for the others
    module = importlib.import_module(f"bench.trials.{part}")
    units = {unit: _kept(unit, told) for unit in module.units(**told["amounts"])}
    left = [unit for unit, found in units.items() if found is None]
    if left:
        module.prepare(Path(told["place"]))
    with ProcessPoolExecutor(told["processes"], multiprocessing.get_context("fork")) as pool:
        tried = {pool.submit(_tried, unit, part, told): unit for unit in left}
        for each in as_completed(tried):
            units[tried[each]] = each.result()
    checks, seconds = Checks(told["seed"]), 0.0
    for found in units.values():
        assert found is not None
        checks.join(found)
        seconds += found["seconds"]
    print(json.dumps(checks.as_json() | {"seconds": seconds}))


if __name__ == "__main__":
    main()
