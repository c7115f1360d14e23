"""inspect: what is in a table, before anything is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.data.inspect import Inspection


@takes(
    TrainingOptions,
    "ask types events seed allow_network config settings",
    helps={
        "ask": "columns to be predicted: finds leaks and class balance.",
        "seed": "the seed of the split.",
        "settings": "key=value, like columns.review.length=128.",
    },
)
def inspect(data: Any, options: TrainingOptions, *, split: str | None = None, quiet: bool = False) -> Inspection:
    """Show a table: types, ranges, lengths, missing values, classes, samples, repeats, leaks, what training would cut.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        split: look at this split too: auto, random, stratified, or group, scaffold, time or given:COLUMN.
        quiet: print nothing.

    Returns:
        The inspection; `as_json()` gives it as data.
    """
    from rich.console import Console

    from onetrunk.training.inspection import run_inspection

    found = run_inspection(data, options, split)
    if not quiet:
        found.show(Console())
    return found
