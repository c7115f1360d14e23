"""Large blocks that are freed and asked for again cost no new pages; large tensors lie in large pages."""

from __future__ import annotations

import os
import platform
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of GNU's C library")
def test_freed_memory_is_kept() -> None:
    def faults(how: str) -> int:
        made = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        return int(made.stdout)

    assert faults("keep") < faults("plain") / 4


_ALIGNED = """
import onetrunk, torch
several = [torch.empty((2 << 20) + 4096 * i, dtype=torch.uint8) for i in range(8)]
print(all(one.data_ptr() % 4096 == 0 for one in several))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux's large pages")
@pytest.mark.parametrize(("options", "aligned"), [(None, "True"), ("0", "False")])
def test_large_tensors_lie_in_large_pages_unless_told_otherwise(options: str | None, aligned: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    environment |= {"THP_MEM_ALLOC_ENABLE": options} if options else {}
    made = subprocess.run([sys.executable, "-c", _ALIGNED], capture_output=True, text=True, check=True, env=environment)
    assert made.stdout.strip() == aligned
