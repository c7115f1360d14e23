"""generate: samples new texts, drawings or values, from given rows or from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import AnswerOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    import pandas as pd


@takes(
    AnswerOptions,
    "ask seed device out producer visible_label temperature top_k top_p max_length guidance steps",
    temperature=0.8,
    top_p=0.95,
    guidance=2.0,
    helps={
        "ask": "the column to generate; by default that of the model's task.",
        "seed": "the seed of all random numbers.",
        "out": "a .csv, .jsonl or .parquet file for the rows and results (images go in a folder beside it).",
        "temperature": "0 gives the most likely value; higher values give more varied ones.",
        "max_length": "the largest number of tokens of a text.",
    },
)
def generate(
    model: Any,
    options: AnswerOptions,
    *,
    data: Any = None,
    prompt: str | None = None,
    n: int = 5,
    quiet: bool = False,
) -> pd.DataFrame | None:
    """Generate values of a column, such as texts or images, for given rows or from nothing.

    Args:
        model: a model folder.
        data: the given rows: a file, DataFrame, or one row as JSON ('{"label": 3}'); by default nothing is given.
        prompt: how each text begins.
        n: how many values to generate for each row.
        quiet: print nothing.

    Returns:
        A DataFrame with n rows for each given row.

    Examples:
        onetrunk generate foundation --ask review --n 3
    """
    from onetrunk.training.prediction import run_generation
    from onetrunk.verbs.show import Printer

    return run_generation(model, data, options, Printer(quiet), prompt=prompt, n=n)
