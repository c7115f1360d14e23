"""What encoders make needs no torch: `core.content` and `core.answer` load where it is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["onetrunk.core.content", "onetrunk.core.answer", "onetrunk.core.rng"])
def test_it_loads_without_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
