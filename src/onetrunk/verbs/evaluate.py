"""evaluate: measures a model on rows that it has not seen, beside simple baselines, and writes card and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import DataOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.evaluation.record import Evidence


@takes(
    DataOptions,
    "ask given map seed device allow_equal_rows max_bad allow_network missing lang separator",
    helps={
        "ask": "the columns to judge; by default those of the model's tasks.",
        "given": "the columns to answer from; by default the task's.",
        "allow_equal_rows": "also judge rows that the model was trained on.",
        "seed": "the seed of the resampling for the intervals.",
    },
)
def evaluate(
    model: str,
    data: Any,
    options: DataOptions,
    *,
    against: Any = None,
    beside: list[str] | str | None = None,
    learning_curve: bool = False,
    quiet: bool = False,
) -> Evidence:
    """Measure a model on a table with known answers, and write evidence/ and README.md in its folder.

    Args:
        model: a model folder.
        data: rows that the model has not seen: a file, folder, DataFrame, dataset, or hf://name.
        against: the training rows, to fit simple baselines on; without them there are none.
        beside: other model folders to compare on the same rows.
        learning_curve: also show how the strongest baseline gets better with more labelled rows of --against.
        quiet: print nothing.

    Returns:
        The evidence; `tasks` holds metrics, intervals and baselines.

    Examples:
        onetrunk evaluate model test.csv
        onetrunk evaluate model test.csv --against train.csv
    """
    from onetrunk.training.evaluate import run_evaluation
    from onetrunk.verbs.show import Printer

    beside = [beside] if isinstance(beside, str) else beside or []
    return run_evaluation(
        model, data, options, Printer(quiet), against=against, beside=beside, learning_curve=learning_curve
    )
