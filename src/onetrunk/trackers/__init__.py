"""Experiment trackers: listeners that hand a run's events to other programs, through these programs' own APIs.

They know events, and nothing of training; training knows nothing of them. A run is tracked on this machine unless the
network is allowed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onetrunk.core.errors import MissingExtraError, unknown
from onetrunk.core.events import Event, Listener

TRACKERS = ("wandb", "mlflow")


@contextmanager
def tracked(
    listener: Listener, tracker: str | None, run: str, settings: dict[str, Any], allow_network: bool = False
) -> Iterator[Listener]:
    """The listener, and beside it a tracker of a run of this name with these settings; alone where `tracker` is None.

    Raises UsageError for a tracker that is not known, MissingExtraError for one that is not installed.
    """
    if tracker is None:
        yield listener
        return
    if tracker not in TRACKERS:
        raise unknown("tracker", tracker, TRACKERS)
    module = importlib.import_module(f"onetrunk.trackers.{tracker}")
    try:
        opened = module.track(run, settings, allow_network)
    except ModuleNotFoundError:
        raise MissingExtraError(tracker, tracker, f"--track {tracker}") from None
    with opened as track:

        def both(event: Event) -> None:
            listener(event)
            track(event)

        yield both
