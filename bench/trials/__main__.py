"""python -m bench.trials PART: one part of `python -m bench edges`. JSON in, JSON out.

A part has `units`, each tried by `try_unit` in one of several processes that are forks of this one; what they share is
made by `prepare` before.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import re
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from bench.trials.attempts import Limits
from bench.trials.checks import Checks


def _tried(unit: str, part: str, told: dict[str, Any]) -> dict[str, Any]:
    """What was found of one unit, in a folder of its own."""
    checks = Checks(told["seed"])
    place = Path(told["place"]) / re.sub(r"\W+", "-", unit)
    module = importlib.import_module(f"bench.trials.{part}")
    module.try_unit(unit, checks, place, Limits(**told["limits"]), **told["amounts"])
    shutil.rmtree(place, ignore_errors=True)
    return checks.as_json()


def main() -> None:
    part, told = sys.argv[1], json.loads(sys.stdin.read())
    torch.set_num_threads(1)  # a fork has one thread, and would wait for the others
    module = importlib.import_module(f"bench.trials.{part}")
    module.prepare(Path(told["place"]))
    checks = Checks(told["seed"])
    with ProcessPoolExecutor(told["processes"], multiprocessing.get_context("fork")) as pool:
        tried = [pool.submit(_tried, unit, part, told) for unit in module.units(**told["amounts"])]
        for each in as_completed(tried):
            checks.join(each.result())
    print(json.dumps(checks.as_json()))


if __name__ == "__main__":
    main()
