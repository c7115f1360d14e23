"""embed: what a model makes of values, as vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import AnswerOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.training.embedding import Embeddings


@takes(
    AnswerOptions,
    "map device max_bad allow_network out",
    helps={"out": "a .npy file for the vectors, or a .parquet file for the rows with a column of vectors."},
)
def embed(
    model: Any,
    data: Any,
    options: AnswerOptions,
    *,
    column: str | None = None,
    pool: str = "mean",
    quiet: bool = False,
) -> Embeddings:
    """Turn every row into a vector: of one column, or of all columns that the model answers from.

    Args:
        model: a model folder.
        data: a file, folder, DataFrame, dataset, or hf://name; or one row as JSON.
        column: embed this column alone; by default all that the model answers from, together.
        pool: how the states of tokens or patches become one vector: mean, cls (the first one) or last.
        quiet: print nothing.

    Returns:
        The vectors, one for each row in the rows' order, as `.vectors` float32 [rows, width].

    Examples:
        onetrunk embed model rows.csv --out vectors.npy
    """
    from onetrunk.training.embedding import run_embedding
    from onetrunk.verbs.show import Printer

    return run_embedding(model, data, options, Printer(quiet), column=column, pool=pool)
