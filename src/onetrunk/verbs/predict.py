"""predict: answers the rows of a table, with probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import AnswerOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    import pandas as pd


@takes(
    AnswerOptions,
    "ask given map seed device max_bad allow_network missing separator "
    "out coverage shard producer prompted visible_label temperature top_k top_p max_length beams guidance steps",
    helps={
        "ask": "the columns to answer; by default those of the model's task.",
        "given": "the columns to answer from; by default the task's.",
        "seed": "the seed of all random numbers.",
    },
)
def predict(model: Any, data: Any, options: AnswerOptions, *, quiet: bool = False) -> pd.DataFrame | None:
    """Predict the asked columns for every row. Given columns and values may be missing.

    Args:
        model: a model folder.
        data: a file, folder, DataFrame, dataset, or hf://name; or one row as JSON.
        quiet: print nothing.

    Returns:
        A DataFrame in the rows' order, with the index of one that was given: for each asked column its answer,
        probability (and each class's) or interval; with `coverage` also a set of classes. None where `out` has the
        answers of a table larger than memory, or was gone on with after an earlier run was killed.

    Examples:
        onetrunk predict model new_rows.csv --out answers.csv
        onetrunk predict model new_rows.csv --out answers.csv --coverage 0.95
        onetrunk predict model new_rows.csv --out answers.csv --shard 2/8
        onetrunk predict model '{"review": "The room was quiet."}' --json
    """
    from onetrunk.training.prediction import run_prediction
    from onetrunk.verbs.show import Printer

    return run_prediction(model, data, options, Printer(quiet))
