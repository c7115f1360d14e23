"""MLflow. A run is kept in its local store (./mlflow.db), or where MLFLOW_TRACKING_URI says. A run that is already open
in this process takes the figures instead of a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.core.events import Event, Listener
from onetrunk.trackers.figures import figures_of, flat

_MOST_TEXT = 500  # characters of a parameter, which every server of MLflow takes
_MOST_AT_ONCE = 100  # parameters


def track(run: str, settings: dict[str, Any], allow_network: bool) -> AbstractContextManager[Listener]:
    """Raises ModuleNotFoundError where MLflow is not installed, UsageError for a server without the network."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    if uri.startswith(("http:", "https:", "databricks")) and not allow_network:
        raise UsageError(f"MLflow's store is {uri}: pass --allow-network, or set MLFLOW_TRACKING_URI to a local one.")
    return _tracking(mlflow, run, settings)


@contextmanager
def _tracking(mlflow: Any, run: str, settings: dict[str, Any]) -> Iterator[Listener]:
    def on_event(event: Event) -> None:
        figures = figures_of(event)
        if figures.values:
            mlflow.log_metrics(figures.values, step=figures.step)

    def begin() -> None:
        told = [(name, str(value)[:_MOST_TEXT]) for name, value in flat(settings).items()]
        for first in range(0, len(told), _MOST_AT_ONCE):
            mlflow.log_params(dict(told[first : first + _MOST_AT_ONCE]))

    if mlflow.active_run() is not None:
        begin()
        yield on_event
    else:
        with mlflow.start_run(run_name=run):  # ends it as failed where an error leaves it
            begin()
            yield on_event
