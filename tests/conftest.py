"""One thread a process: test processes share cores, and OpenMP's spinning collapses when they do."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; for what tests start, too

import signal

import pytest
import torch

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, and then in all that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Weights are drawn from torch's generator: every test begins with the same one."""
    torch.manual_seed(0)
