"""Large blocks that are freed and asked for again cost no new pages, and lie in large ones."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from onetrunk.engine.heap import heap_bytes

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


_LARGE = """
import resource, sys
if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))
from onetrunk.engine.memory import keep_freed_memory
keep_freed_memory()
import torch
several = [torch.ones(20 << 18) for _ in range(4)]  # of 20 MB
large = heap = 0
for line in open("/proc/self/smaps"):
    if "-" in line.split()[0]:
        heap = "[heap]" in line
    elif heap and line.startswith("AnonHugePages"):
        large += int(line.split()[1])
print(large >> 10)
"""


def _offers_large_pages() -> bool:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.exists() and "[madvise]" in setting.read_text()


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not _offers_large_pages(), reason="of GNU's C library and Linux's large pages"
)
@pytest.mark.parametrize(
    ("how", "options", "least", "most"), [("free", None, 70, 200), ("free", "0", 0, 0), ("limited", None, 0, 0)]
)
def test_kept_memory_lies_in_large_pages_unless_told_otherwise(
    how: str, options: str | None, least: int, most: int
) -> None:
    """Where addresses are limited, none are taken beforehand."""
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    environment |= {"THP_MEM_ALLOC_ENABLE": options} if options else {}
    command = [sys.executable, "-c", _LARGE, how]
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert least <= int(made.stdout) <= most


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of GNU's C library")
def test_a_heap_is_asked_what_it_takes_for_tensors_that_come_and_go() -> None:
    block = 10 << 20
    assert heap_bytes([1, block, 2, block]) == pytest.approx(2 * block, rel=0.05)
    assert heap_bytes([1, block, 1, -1, 2, block - 4096]) == pytest.approx(block, rel=0.05)
    # A gap of one block holds no tensor of two, and both pieces of what is smaller.
    gap = [1, block, 2, block, 3, block, 2, -1]
    assert heap_bytes([*gap, 4, 2 * block]) == pytest.approx(5 * block, rel=0.05)
    assert heap_bytes([*gap, 4, block // 2, 5, block // 3]) == pytest.approx(3 * block, rel=0.05)


_TRIMMED = """
import numpy as np
from onetrunk.engine.memory import keep_freed_memory, trim_freed_memory
from onetrunk.engine.progress import resident_bytes
keep_freed_memory()
blocks = [np.ones(3 << 20) for _ in range(8)]  # of 24 MiB
held = resident_bytes()
last = blocks[-1:]
del blocks
kept = resident_bytes()
trim_freed_memory()
print(held, kept, resident_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of GNU's C library")
def test_kept_memory_is_given_back_when_asked_for_though_something_lies_behind_it() -> None:
    made = subprocess.run([sys.executable, "-c", _TRIMMED], capture_output=True, text=True, check=True)
    held, kept, trimmed = map(int, made.stdout.split())
    assert held - kept < 30e6
    assert held - trimmed > 160e6
