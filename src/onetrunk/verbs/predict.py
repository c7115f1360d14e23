"""predict: answers for the rows of a table, with probabilities, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import AnswerOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    import pandas as pd


@takes(
    AnswerOptions,
    "ask given map seed device max_bad allow_network out temperature top_k top_p max_length beams guidance steps",
    helps={
        "ask": "columns to answer; by default the folder's task.",
        "given": "columns to look at; by default the task's.",
        "seed": "the seed of everything drawn.",
    },
)
def predict(
    model: Any, data: Any, options: AnswerOptions, *, prompted: bool = False, quiet: bool = False
) -> pd.DataFrame | None:
    """Answer the asked columns for every row. Columns and values may be missing.

    Args:
        model: a model folder.
        data: a file, folder, DataFrame, dataset, or hf://name; or one row as JSON.
        prompted: the rows' own values of the asked column are prompts, which its answers continue (texts).
        quiet: print nothing.

    Returns:
        A DataFrame in the rows' order, with the index of one that was given: for each asked column its answer,
        probability (and each class's) or interval. None where `out` has the answers of a table larger than memory.
    """
    from onetrunk.training.answers import run_prediction
    from onetrunk.verbs.show import Printer

    return run_prediction(model, data, options, Printer(quiet), prompted=prompted)
