"""Memory of a CPU: what a step frees is kept for the next one, and lies in large pages; or it goes back at once, where
memory is what is short."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from functools import cache
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's mallopt(3)
_ALWAYS, _NEVER = 2**31 - 1, -1  # bytes
_SMALL = 64 << 10  # bytes of what lies on the heap in any case
_LARGEST = 32 << 20  # the most that older versions take for the larger
_HUGE_PAGE = 21  # bits of its size, 2 MB
_MADV_HUGEPAGE = 14
_AT_ONCE = 1 << 29  # bytes that are surely taken from the heap, whatever the thresholds
_STRICT = "2"  # overcommit_memory, where addresses count as memory
_short = False  # was it said that memory is what is short?


@cache
def keep_freed_memory(large_pages: bool = True) -> None:
    """A step on a CPU, of training or of answering, frees nearly all that it computes and asks for as much again. glibc
    hands the larger part back to the system in between and gets it anew, page by page, each cleared: a tenth of a step
    and more. With other libraries nothing changes.

    With `large_pages` the memory that is kept lies in pages of 2 MB, unless THP_MEM_ALLOC_ENABLE=0 says otherwise.
    PyTorch's own way (that variable at 1) gives every large tensor a page's beginning. Freed memory then rarely fits
    the next tensor, and a process that keeps it holds more with every step: twice as much after a dozen.
    """
    if not sys.platform.startswith("linux") or _short:
        return
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _ALWAYS) or mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _NEVER)
        if large_pages and os.environ.get("THP_MEM_ALLOC_ENABLE") != "0":
            _use_large_pages(libc)


@cache
def give_back_freed_memory() -> None:
    """The opposite, for a run that divides weights among processes, or computes activations again, because memory is
    short: each tensor has pages of its own, which go back to the system with it. So a process holds what its tensors
    take, and no gaps between them. Where freed memory has been kept before, it stays; from now on none is kept."""
    global _short
    _short = True
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _SMALL)


def trim_freed_memory() -> None:
    """Hands what has been freed and kept so far back to the system, so that what is resident is what is held."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def _use_large_pages(libc: ctypes.CDLL) -> None:
    """Extends the heap by addresses, which take no memory before they are used, and asks for large pages in them."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.sbrk(0)
    blocks = [libc.malloc(_AT_ONCE) for _ in range(_addresses() // _AT_ONCE)]
    end = libc.sbrk(0)
    first, last = -(-start >> _HUGE_PAGE) << _HUGE_PAGE, end >> _HUGE_PAGE << _HUGE_PAGE
    if first < last:
        libc.madvise(first, last - first, _MADV_HUGEPAGE)
    for block in blocks:
        libc.free(block)


def _addresses() -> int:
    """Bytes by which the heap may grow at once; none where addresses are limited or count as memory."""
    import resource

    if any(resource.getrlimit(of)[0] != resource.RLIM_INFINITY for of in (resource.RLIMIT_AS, resource.RLIMIT_DATA)):
        return 0
    try:
        if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == _STRICT:
            return 0
    except OSError:
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
