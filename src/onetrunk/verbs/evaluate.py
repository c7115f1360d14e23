"""evaluate: how good a model is on rows it has not seen, beside simple baselines, as figures, card and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import DataOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.evaluation.record import Evidence


@takes(
    DataOptions,
    "ask given map seed device allow_equal_rows max_bad allow_network",
    helps={
        "ask": "columns to judge; by default the folder's tasks.",
        "given": "columns to answer from; by default the task's.",
        "allow_equal_rows": "judge rows too that equal one the model was trained on.",
        "seed": "the seed of the intervals' resampling.",
    },
)
def evaluate(
    model: str,
    data: Any,
    options: DataOptions,
    *,
    against: Any = None,
    beside: list[str] | None = None,
    quiet: bool = False,
) -> Evidence:
    """Measure a model folder on a table with known answers; writes evidence/ and README.md in the folder.

    Args:
        model: a model folder.
        data: rows the model has not seen: a file, folder, DataFrame, dataset, or hf://name.
        against: training rows for the baselines; without them only the model is judged.
        beside: other model folders, like one for each of several tasks, to compare on the same rows.
        quiet: print nothing.

    Returns:
        The evidence; `tasks` holds metrics, intervals and baselines.
    """
    from onetrunk.training.jobs import run_evaluation
    from onetrunk.verbs.show import Printer

    return run_evaluation(model, data, options, Printer(quiet), against=against, beside=beside or [])
