"""The command, as `onetrunk` and as `python -m onetrunk`: what must work before and after everything else."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

_STOPPED = 128 + signal.SIGINT


def main() -> None:
    """Runs the command line. Ctrl-C is answered from here on, also while the program itself is still being read."""
    try:
        _open_streams()
        from onetrunk.cli import main as run

        run()
        if _of_torchrun():
            _leave(0)
    except KeyboardInterrupt:
        print("onetrunk: stopped.", file=sys.stderr)
        _leave(_STOPPED)
    except SystemExit as end:
        if end.code == _STOPPED:
            _leave(_STOPPED)
        if not end.code and _of_torchrun():
            _leave(0)
        raise


def _open_streams() -> None:
    """Standard streams that can be written to, whatever they are. One that is closed becomes a hole: else the next file
    that is opened would get its number, and what is printed. What a terminal's encoding lacks is escaped."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _of_torchrun() -> bool:
    """Is this one of several processes that torchrun has started?"""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _leave(code: int) -> None:
    """Ends at once. Taking PyTorch down in order takes a second, in which someone who pressed Ctrl-C would wait; now
    and then, one of several processes was aborted by threads of its own while it ended, with all of its work done
    ("terminate called without an active exception")."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # whoever read it has gone: nobody is left to be told
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
