"""python -m bench.trials PART: one part of `python -m bench edges`, in a process of its own. JSON in, JSON out."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch

from bench.trials.attempts import Limits
from bench.trials.checks import Checks


def main() -> None:
    told = json.loads(sys.stdin.read())
    torch.set_num_threads(1)  # a fork has one thread, and would wait for the others
    checks = Checks(told["seed"])
    part = importlib.import_module(f"bench.trials.{sys.argv[1]}")
    part.run(checks, Path(told["place"]), Limits(**told["limits"]), **told["amounts"])
    print(json.dumps(checks.as_json()))


if __name__ == "__main__":
    main()
