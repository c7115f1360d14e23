"""Keeps the memory that a step frees for the next one."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's mallopt(3)
_ALWAYS = 2**31 - 1  # bytes
_LARGEST = 32 << 20  # the most that older versions take for the larger


def keep_freed_memory() -> None:
    """A step on a CPU frees nearly all that it computes and asks for as much again. glibc hands the larger part back to
    the system in between and gets it anew, page by page, each cleared: a tenth of a step and more. With other libraries
    nothing changes."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _ALWAYS) or mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _ALWAYS)
