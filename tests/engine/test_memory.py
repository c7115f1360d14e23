"""Large blocks that are freed and asked for again cost no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys, numpy as np
if sys.argv[1] == "keep":
    from onetrunk.engine.memory import keep_freed_memory
    keep_freed_memory()
def once():
    blocks = [np.ones(3 << 20) for _ in range(8)]  # of 24 MiB: all of them are freed at the end
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux's C library")
def test_freed_memory_is_kept() -> None:
    def faults(how: str) -> int:
        made = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        return int(made.stdout)

    assert faults("keep") < faults("plain") / 4
