"""prepare: reads and encodes a table once, for every verb that takes it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.training.prepare_data import Preparation


@takes(
    TrainingOptions,
    "ask given ignore types split seed allow_equal_rows max_bad allow_network missing separator out overwrite start "
    "config settings",
    out="prepared",
    helps={
        "ask": "the columns that you will ask for.",
        "out": "the folder to make, which every verb takes in place of the table.",
        "overwrite": "replace a table that was prepared of other files.",
        "start": "the model folder whose vocabularies encode the columns; by default they are learnt from the training "
        "rows.",
        "max_bad": "stop if a larger share of a column's values, or of the files, cannot be used.",
        "settings": "one setting as key=value, like columns.review.length=128; may be repeated.",
    },
)
def prepare(data: Any, options: TrainingOptions, *, workers: int | None = None, quiet: bool = False) -> Preparation:
    """Prepare a large table once: read it, divide it, encode it, and keep it as memory-mapped files.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name; 'data/*.parquet' and a.csv,b.csv are several files.
        workers: how many processes read and encode; by default one a core.
        quiet: print nothing.

    Returns:
        What was prepared: the folder, its rows, splits and columns, and the ledger.

    Examples:
        onetrunk prepare 'data/*.parquet' --out store
        onetrunk prepare reviews.csv --ask label --from foundation --out store
    """
    from onetrunk.training.prepare_data import run_preparation
    from onetrunk.verbs.show import Printer

    return run_preparation(data, options, Printer(quiet), processes=workers)
