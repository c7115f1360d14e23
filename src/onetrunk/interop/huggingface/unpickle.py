"""Turns one pickled checkpoint file into safetensors: a program of its own, which `convert` starts.

    python -m onetrunk.interop.huggingface.unpickle weights.bin weights.safetensors

Only what `torch.load(weights_only=True)` allows is built: tensors, numbers, texts, lists. Should that ever fail to
hold, the process has no network, and starts no other.
"""

from __future__ import annotations

import contextlib
import ctypes
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000  # Linux's unshare(2)
_FAULTS = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, EOFError, ImportError,
           AssertionError, struct.error, pickle.UnpicklingError)  # fmt: skip
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "ctypes.")


def guard() -> None:
    """From now on this process reaches no network and starts no program; not to be undone."""
    with contextlib.suppress(AttributeError, OSError):  # where the system has no such thing, the next line still holds
        ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)

    def refuse(event: str, args: Any) -> None:
        if event.startswith(_FORBIDDEN):
            raise PermissionError(f"a file that is converted asked for {event}")

    sys.addaudithook(refuse)


def main(source: str, target: str) -> None:
    import torch

    from onetrunk.storage.tensors import save_tensors

    torch.set_num_threads(1)
    guard()
    loaded = torch.load(source, map_location="cpu", weights_only=True)
    while isinstance(loaded, dict) and len(loaded) == 1 and isinstance(next(iter(loaded.values())), dict):
        loaded = next(iter(loaded.values()))  # {"state_dict": {...}}
    tensors = {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)} if isinstance(loaded, dict) else {}
    if not tensors:
        raise ValueError("it holds no tensors by name")
    save_tensors(Path(target), tensors)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except _FAULTS as error:  # the parent says it in one line
        print(str(error).partition("\n")[0][:400] or type(error).__name__, file=sys.stderr)
        sys.exit(1)
