"""pretrain: makes a foundation model of a table, from nothing or from another model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes, tracking

if TYPE_CHECKING:
    from onetrunk.inference.model_folder import Model


@takes(
    TrainingOptions,
    "ask given ignore types map split seed device allow_equal_rows max_bad allow_network missing separator "
    "out overwrite start size mixture events private budget max_memory track config settings",
    out="foundation",
    helps={
        "ask": "the columns that you will ask for later; by default all columns count alike.",
        "given": "the columns to use; by default all except ids, constants and columns that give the answer away.",
        "start": "the model folder to continue from (or a Hugging Face folder, or hf://name); by default a new model.",
    },
)
def pretrain(data: Any, options: TrainingOptions, *, quiet: bool = False) -> Model:
    """Pretrain one model on all columns of a table: it learns to predict any part of a row from the rest.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.

    Examples:
        onetrunk pretrain data.csv --out foundation
        onetrunk pretrain texts.txt --out writer --budget 1h --size small
    """
    from onetrunk.training.jobs import run_pretraining
    from onetrunk.verbs.show import Printer

    with tracking(Printer(quiet), options) as on_event:
        return run_pretraining(data, options, on_event)
