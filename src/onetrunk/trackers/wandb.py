"""Weights & Biases. A run is written below ./wandb, and uploaded where the network is allowed, or by `wandb sync`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from onetrunk.core.events import Event, Listener
from onetrunk.trackers.figures import figures_of, flat

PROJECT = "onetrunk"
_LOCAL = ("offline", "disabled", "dryrun")


def track(run: str, settings: dict[str, Any], allow_network: bool) -> AbstractContextManager[Listener]:
    """Raises ModuleNotFoundError where wandb is not installed. WANDB_PROJECT, WANDB_DIR and so on hold as always."""
    import wandb

    mode = None if allow_network or os.environ.get("WANDB_MODE") in _LOCAL else "offline"
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    opened = wandb.init(
        project=project, name=run, config=flat(settings), mode=mode, settings=wandb.Settings(silent=True, console="off")
    )
    return _tracking(opened)


@contextmanager
def _tracking(run: Any) -> Iterator[Listener]:
    series: set[str] = set()

    def on_event(event: Event) -> None:
        figures = figures_of(event)
        if figures.series and figures.series not in series:  # its steps are its own: stages follow one another
            series.add(figures.series)
            run.define_metric(f"{figures.series}/*", step_metric=f"{figures.series}/step")
        if figures.series:
            run.log({**figures.values, f"{figures.series}/step": figures.step})
        else:
            run.summary.update(figures.values)

    try:
        yield on_event
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish(exit_code=0)
