"""Errors a person meets: one plain message (expected, found, where, what to do) and an exit code.

Anything else that escapes is a bug and exits 1 with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OnetrunkError(Exception):
    """A fault with a plain message. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(OnetrunkError):
    """A wrong flag, name, config key or value."""

    exit_code = 2


class DataError(OnetrunkError):
    """The data cannot be used as it is."""

    exit_code = 3


class ModelFileError(OnetrunkError):
    """A model folder or checkpoint is damaged, incomplete, foreign or from a newer version."""

    exit_code = 4


class DivergedError(OnetrunkError):
    """The loss or a gradient stopped being a finite number."""

    exit_code = 5


class ResourceError(OnetrunkError):
    """Memory or disk ran out, or a place cannot be written."""

    exit_code = 6


class InterruptedRunError(OnetrunkError):
    """A signal stopped a run after its step was finished and saved. Exits with 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class LostProcessError(OnetrunkError):
    """A process of a run of several is gone, or does not answer."""

    exit_code = 7


class EvidenceError(OnetrunkError):
    """An evidence gate failed."""

    exit_code = 8


class MissingExtraError(UsageError):
    """An optional dependency is needed here and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}. Install it: pip install 'onetrunk[{extra}]'")


def is_out_of_memory(error: BaseException) -> bool:
    """Did an allocation fail, on whatever device? Asks without importing what may have failed: PyTorch has a class of
    its own for accelerators, and none for the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


class BadValueError(Exception):
    """Raised by `Encoder.encode` for one value; the caller adds row and column, and writes the ledger."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'label'?"` when a known name is close, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest one that does."""
    return UsageError(f"Unknown {kind} {name!r}.{nearest(name, known)}")
