"""inspect: shows what is in a table, before anything is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.data.inspection import Inspection


@takes(
    TrainingOptions,
    "ask types events seed allow_network missing separator config settings",
    helps={
        "ask": "the columns to predict: shows their classes, and which columns give the answer away.",
        "seed": "the seed of the split.",
        "settings": "one setting as key=value, like columns.review.length=128; may be repeated.",
    },
)
def inspect(data: Any, options: TrainingOptions, *, split: str | None = None, quiet: bool = False) -> Inspection:
    """Show what is in a table: types, ranges, missing values, repeated rows, and what training could not use.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        split: also check this split: auto, random, stratified, or group, scaffold, time or given with :COLUMN.
        quiet: print nothing.

    Returns:
        The inspection; `as_json()` gives it as data.

    Examples:
        onetrunk inspect data.csv
        onetrunk inspect data.csv --ask label --json
    """
    from rich.console import Console

    from onetrunk.training.inspect_data import run_inspection

    inspection = run_inspection(data, options, split)
    if not quiet:
        inspection.show(Console(highlight=False, emoji=False))
    return inspection
