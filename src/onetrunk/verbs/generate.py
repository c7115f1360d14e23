"""generate: predict with sampling: new texts, drawings or values, from what is given or from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import AnswerOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    import pandas as pd


@takes(
    AnswerOptions,
    "ask seed device out temperature top_k top_p max_length guidance steps",
    temperature=0.8,
    top_p=0.95,
    guidance=2.0,
    helps={
        "ask": "the column to make; by default the folder's task.",
        "seed": "the seed of everything drawn.",
        "out": "a .csv, .jsonl or .parquet file for rows and results (pictures go in a folder beside it).",
        "temperature": "0 makes the likeliest; higher varies more.",
        "max_length": "tokens of a text at most.",
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
    """Draw or write `n` values of a column, for every given row or from nothing.

    Args:
        model: a model folder.
        data: rows to make it from: a file, DataFrame, or one row as JSON ('{"label": 3}'); without it from nothing.
        prompt: how each text begins.
        n: how many for each row.
        quiet: print nothing.

    Returns:
        A DataFrame with n rows for each given row.
    """
    from onetrunk.training.answers import run_generation
    from onetrunk.verbs.show import Printer

    return run_generation(model, data, options, Printer(quiet), prompt=prompt, n=n)
