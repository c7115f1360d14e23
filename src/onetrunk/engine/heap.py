"""What a heap holds for a sequence of tensors that are made and freed: glibc itself is asked, in processes of its own
that make and free as much, and write nothing into it. Where a block fits hangs on the smallest things that lie there
before, and whether a large one does can be a tenth of all that is held: so heaps that begin differently are asked, and
what counts is their mean.

Small objects lie between tensors: what PyTorch knows of a tensor, and how it was computed. They matter, because glibc
(up to 2.37) puts an aligned block into a freed one of its size only where there is some space beside it, which small
objects take.

Run as a script by `heap_bytes`: it must not import anything of ours.
"""

from __future__ import annotations

import array
import ctypes
import itertools
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence

_ALIGNED = 64  # of PyTorch's tensors on a CPU
_FREED = -1
_BEFORE, _AFTER = 4, 3  # small objects of a tensor, as long as it is there
_SIZES = (96, 192, 208, 320, 64, 48)  # of these, in turn
_HEAPS = 15
_EACH = 10  # so many more objects lie in each heap at its beginning than in the one before


def heap_bytes(events: Sequence[int]) -> int | None:
    """Bytes by which a heap grows that keeps what is freed (`engine.memory`). `events` are pairs: the number of a
    tensor, and its bytes, or -1 where it is freed. None where there is no heap of glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    made = subprocess.run(
        [sys.executable, "-I", "-S", __file__],
        input=array.array("q", events).tobytes(),
        capture_output=True,
        check=True,
    )
    return round(statistics.mean(map(int, made.stdout.split())))


def _say_all(events: Sequence[int]) -> None:
    """Prints what each heap grows by, a line each."""
    for number in range(_HEAPS):
        if child := os.fork():
            if os.waitpid(child, 0)[1]:
                sys.exit(f"heap {number} failed")
            continue
        print(_replay(events, number * _EACH), flush=True)
        os._exit(0)


def _replay(events: Sequence[int], objects: int) -> int:
    """In a heap that begins with some more small objects."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 2**31 - 1) or libc.mallopt(-3, 32 << 20)  # as `engine.memory` does
    libc.mallopt(-1, -1)
    libc.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    for i in range(objects):
        libc.malloc(16 + (1000 * objects + 37 * i) % 500)
    held: dict[int, list[int | None]] = {}
    block, start, sizes = ctypes.c_void_p(), libc.sbrk(0), itertools.cycle(_SIZES)
    for number, size in zip(events[::2], events[1::2], strict=True):
        if size == _FREED:
            for each in held.pop(number):
                libc.free(each)
            continue
        small = [libc.malloc(next(sizes)) for _ in range(_BEFORE)]
        if libc.posix_memalign(ctypes.byref(block), _ALIGNED, max(1, size)):
            raise MemoryError(f"no addresses for {size} bytes")
        held[number] = [block.value, *small, *(libc.malloc(next(sizes)) for _ in range(_AFTER))]
    return int(libc.sbrk(0)) - int(start)


if __name__ == "__main__":
    _say_all(array.array("q", sys.stdin.buffer.read()))
