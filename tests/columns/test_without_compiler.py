"""A model of any column type takes its shape without PyTorch's compiler, whose import takes a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHILD = """
import sys


class NoCompiler:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._dynamo":
            raise ImportError("PyTorch's compiler is not to be imported here")


sys.meta_path.insert(0, NoCompiler())

import torch
from worlds import CASES, fitted
from onetrunk.core.registry import column_types

for name, case in CASES.items():
    sides = fitted(case, width=None)
    with torch.device("meta"):
        column_types.get(case.type).module(sides.encoder, 16)
    print(name)
"""


def test_the_shape_of_a_model_is_taken_without_the_compiler() -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", CHILD], cwd=tests, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
